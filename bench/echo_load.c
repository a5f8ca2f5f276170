/* The clients of bench/echo.py: connections that send messages and wait until they have come back.

   usage: echo_load stream|datagram PORT|NAME CLIENTS SIZE MESSAGES IN_FLIGHT

   A number is a port of 127.0.0.1, anything else the name of an abstract UNIX socket. First a tenth of it, to warm up; then
   it says "warm", waits for a line, does it all, says "done" and waits for the end of standard input. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MOST_EVENTS 512
#define LARGEST 262144

struct client {
    int fd, waits_to_send;
    long unsent, unanswered; /* bytes of this round */
    long allowed;            /* bytes that may be sent before something is answered */
};

static char message[LARGEST], answer[LARGEST];
static long size;
static int poll_fd;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int connected(int kind, const char *where)
{
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int is_port = atoi(where) > 0, fd = socket(is_port ? AF_INET : AF_UNIX, kind, 0);
    port.sin_port = htons(atoi(where));
    strncpy(name.sun_path + 1, where, sizeof name.sun_path - 2);
    if (is_port ? connect(fd, (struct sockaddr *)&port, sizeof port)
                : connect(fd, (struct sockaddr *)&name, sizeof(sa_family_t) + 1 + strlen(where)))
        fail("connect");
    return fd;
}

static void watch(struct client *one, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (one->waits_to_send ? EPOLLOUT : 0), .data.ptr = one};
    if (epoll_ctl(poll_fd, operation, one->fd, &event) < 0)
        fail("epoll_ctl");
}

static void send_what_is_allowed(struct client *one)
{
    int waits = 0;
    while (one->unsent && one->allowed > 0 && !waits) {
        ssize_t sent = send(one->fd, message, size < one->allowed ? size : one->allowed, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN)
            fail("send");
        if (sent < 0)
            waits = 1;
        else
            one->unsent -= sent, one->allowed -= sent;
    }
    if (waits != one->waits_to_send) {
        one->waits_to_send = waits;
        watch(one, EPOLL_CTL_MOD);
    }
}

static void take_answer(struct client *one)
{
    ssize_t got = recv(one->fd, answer, sizeof answer, MSG_DONTWAIT);
    if (!got || (got < 0 && errno != EAGAIN))
        fail("recv");
    if (got > 0) {
        long whole = (one->unanswered + size - 1) / size;
        one->unanswered -= got;
        one->allowed += (whole - (one->unanswered + size - 1) / size) * size;
    }
}

static void do_round(struct client *clients, int many, long messages, long in_flight)
{
    int busy = many;
    for (int number = 0; number < many; number++) {
        clients[number].unsent = clients[number].unanswered = messages * size;
        clients[number].allowed = (in_flight < messages ? in_flight : messages) * size;
        send_what_is_allowed(clients + number);
    }
    while (busy) {
        struct epoll_event events[MOST_EVENTS];
        int ready = epoll_wait(poll_fd, events, MOST_EVENTS, -1);
        for (int number = 0; number < ready; number++) {
            struct client *one = events[number].data.ptr;
            if (events[number].events & EPOLLIN) {
                take_answer(one);
                busy -= !one->unanswered;
            }
            if (one->unanswered)
                send_what_is_allowed(one);
        }
    }
}

int main(int count, char **arguments)
{
    if (count != 7)
        return 64;
    int kind = strcmp(arguments[1], "stream") ? SOCK_DGRAM : SOCK_STREAM, many = atoi(arguments[3]);
    long messages = atol(arguments[5]), in_flight = atol(arguments[6]);
    struct client *clients = calloc(many, sizeof *clients);
    size = atol(arguments[4]);
    poll_fd = epoll_create1(0);
    for (int number = 0; number < many; number++) {
        clients[number].fd = connected(kind, arguments[2]);
        watch(clients + number, EPOLL_CTL_ADD);
    }
    do_round(clients, many, messages / 10 + 1, in_flight);
    puts("warm");
    fflush(stdout);
    getchar();
    do_round(clients, many, messages, in_flight);
    puts("done");
    fflush(stdout);
    while (getchar() != EOF)
        ;
}
