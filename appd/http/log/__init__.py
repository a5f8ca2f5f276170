"""What is said of clients, requests and errors, and to whom."""
