/* What an echo costs when nothing but the system calls is done: one thread, one level-triggered epoll on descriptor 3. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT 3
#define LARGEST 65536

static char data[LARGEST];

static void watch(int poll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        abort();
}

static void echo_stream(int fd)
{
    ssize_t got = recv(fd, data, sizeof data, 0), sent = 0;
    if (got <= 0) {
        close(fd);
        return;
    }
    while (sent < got) {
        ssize_t part = send(fd, data + sent, got - sent, MSG_NOSIGNAL);
        if (part < 0) {
            struct pollfd full = {.fd = fd, .events = POLLOUT};
            if (poll(&full, 1, 1000) < 1 || full.revents & (POLLHUP | POLLERR))
                return;
        } else
            sent += part;
    }
}

static void echo_datagram(int fd)
{
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    ssize_t got = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&from, &length);
    if (got >= 0)
        sendto(fd, data, got, 0, (struct sockaddr *)&from, length);
}

int main(int count, char **arguments)
{
    struct epoll_event events[512];
    int is_stream = count > 1 && !strcmp(arguments[1], "stream"), poll_fd = epoll_create1(0);
    watch(poll_fd, PORT);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, 512, -1);
        for (int number = 0; number < ready; number++) {
            int fd = events[number].data.fd;
            if (!is_stream)
                echo_datagram(fd);
            else if (fd == PORT)
                watch(poll_fd, accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
            else
                echo_stream(fd);
        }
    }
}
