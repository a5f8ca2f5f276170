"""Static files: a request to the response that a file gives."""
