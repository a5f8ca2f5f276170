"""The driver of HTTP on threads that share one epoll."""
