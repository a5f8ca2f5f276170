/* The ceiling: what a request costs when nothing is done for it. One thread, one level-triggered epoll on descriptor 3.
 *
 * A request is whatever ends with an empty line; the letter behind "GET /" says what for: h(ello), f(ields), l(arge),
 * s(tatic: a file that is read anew for each request, without sendfile(2)). Anything else gets its process number, as
 * the other candidates do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTENER 3
#define LARGE 102400
#define MOST 65536

struct client { char in[4096]; size_t got; char *out; size_t left; };

static char answers[4][LARGE + 2048];
static size_t sizes[4], head_size;
static struct client *clients[MOST];
static int poll_fd, file_fd;

static void make(int place, const char *fields, size_t length, int fill)
{
    int head = sprintf(answers[place], "HTTP/1.1 200 OK\r\nServer: ceiling\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
                       "Content-Type: text/plain\r\n%sContent-Length: %zu\r\n\r\n", fields, length);
    if (fill)
        memset(answers[place] + head, 'x', length);
    else
        memcpy(answers[place] + head, "Hello, world!\n", length);
    sizes[place] = head + length;
    head_size = head;
}

static void watch(int fd, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poll_fd, operation, fd, &event) < 0)
        abort();
}

static void leave(int fd)
{
    free(clients[fd]);
    clients[fd] = NULL;
    close(fd);
}

static void flush(int fd, struct client *one)
{
    while (one->left) {
        ssize_t sent = send(fd, one->out, one->left, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN)
                watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
            else
                leave(fd);
            return;
        }
        one->out += sent;
        one->left -= sent;
    }
}

static void answer(int fd, struct client *one)
{
    static char whoami[4096];
    int place = one->in[5] == 'h' ? 0 : one->in[5] == 'f' ? 1 : one->in[5] == 'l' ? 2 : one->in[5] == 's' ? 3 : -1;
    int last = strcasestr(one->in, "connection: close") != NULL;
    if (place < 0) {
        char body[64];
        int length = sprintf(body, "%d 1\nend\n", getpid());
        one->left = sprintf(whoami, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length, body);
        one->out = whoami;
    } else {
        if (place == 3 && pread(file_fd, answers[3] + head_size, LARGE, 0) != LARGE)
            abort();
        one->out = answers[place];
        one->left = sizes[place];
    }
    one->got = 0;
    flush(fd, one);
    if (last && clients[fd] != NULL && !one->left)
        leave(fd);
}

int main(int count, char **arguments)
{
    struct epoll_event events[64];
    char fields[1024] = "";
    for (int number = 0; number < 8; number++)
        sprintf(fields + strlen(fields), "X-Field-%d: a value of some length\r\n", number);
    make(0, "", 14, 0);
    make(1, fields, 14, 0);
    make(2, "", LARGE, 1);
    make(3, "", LARGE, 1); /* the last: its head is that of `head_size` */
    file_fd = open(count > 1 ? arguments[1] : "/dev/zero", O_RDONLY);
    poll_fd = epoll_create1(0);
    fcntl(LISTENER, F_SETFL, O_NONBLOCK);
    watch(LISTENER, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, 64, -1);
        for (int number = 0; number < ready; number++) {
            int fd = events[number].data.fd, yes = 1;
            struct client *one;
            if (fd == LISTENER) {
                int made = accept4(LISTENER, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (made < 0)
                    continue;
                if (made >= MOST)
                    abort();
                setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                clients[made] = calloc(1, sizeof **clients);
                watch(made, EPOLL_CTL_ADD, EPOLLIN);
                continue;
            }
            one = clients[fd];
            if (events[number].events & EPOLLOUT) {
                flush(fd, one);
                if (clients[fd] != NULL && !one->left)
                    watch(fd, EPOLL_CTL_MOD, EPOLLIN);
                continue;
            }
            ssize_t got = recv(fd, one->in + one->got, sizeof one->in - 1 - one->got, 0);
            if (got <= 0) {
                leave(fd);
                continue;
            }
            one->got += got;
            one->in[one->got] = 0;
            if (one->got >= 4 && !memcmp(one->in + one->got - 4, "\r\n\r\n", 4))
                answer(fd, one);
        }
    }
}
