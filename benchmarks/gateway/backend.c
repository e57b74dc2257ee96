/* A fake OpenAI engine, far faster than any proxy: one thread, epoll, answers made once.
 *
 * backend PORT: listens on 127.0.0.1:PORT until it is ended. GET is answered with what routers ask an engine for. POST is answered
 * with a chat.completion, or with `"stream":true` by `max_tokens` events, one each `seed` milliseconds, each in a write of its own;
 * the last of them says why it finished. Then come one with the usage, where `include_usage` asks for it, and `[DONE]`. Bodies are
 * searched, not parsed: the load generator writes them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 17, BATCH = 512 };

/* One connection; while it streams it stands in the queue of streams, in order of `due`. */
struct connection {
    struct connection *before, *after;
    uint64_t due, interval;
    long left;
    size_t length;
    int fd, streams, usage;
    char data[ROOM + 1];
};

static struct connection queue = {.before = &queue, .after = &queue};

static const char INFO[] =
    "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\",\"owned_by\":\"bench\"}],\"status\":\"ok\","
    "\"version\":\"1\",\"model_path\":\"m\",\"served_model_name\":\"m\",\"tp_size\":1,\"dp_size\":1}";
static const char COMPLETION[] =
    "{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{"
    "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"A penstock carries water to the wheel.\"},\"logprobs\":null,"
    "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":10,\"total_tokens\":110}}";
static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
static const char EVENT[] =
    "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\","
    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" water\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
static const char FINISH[] =
    "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\","
    "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n";
static const char USAGE[] =
    "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\","
    "\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":100,\"total_tokens\":200}}\n\n";
static const char LAST[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

static char info[1024], completion[1024], event[512], finish[512], usage[512];

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* 0 when the reader is gone. A reader that is behind holds everybody up; answers fit socket buffers, so that none is. */
static int send_all(int fd, const char *data, size_t length) {
    while (length) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd one = {.fd = fd, .events = POLLOUT};
            poll(&one, 1, 1000);
            continue;
        }
        if (sent <= 0) return 0;
        data += sent, length -= (size_t)sent;
    }
    return 1;
}

static int send_text(int fd, const char *text) { return send_all(fd, text, strlen(text)); }

static void leave_queue(struct connection *c) {
    if (!c->streams) return;
    c->before->after = c->after, c->after->before = c->before;
    c->streams = 0;
}

/* From the end: streams of one interval come in order, and so stand where they are put. */
static void enter_queue(struct connection *c) {
    struct connection *last = queue.before;
    while (last != &queue && last->due > c->due) last = last->before;
    c->before = last, c->after = last->after;
    last->after->before = c, last->after = c;
    c->streams = 1;
}

static void drop(struct connection *c) {
    leave_queue(c);
    close(c->fd);
    free(c);
}

static long number_after(const char *text, const char *name, long otherwise) {
    const char *found = strstr(text, name);
    return found ? atol(found + strlen(name)) : otherwise;
}

/* Bytes of the first whole request, 0 while it is not whole; `*body` is where its body starts. */
static size_t request_length(struct connection *c, char **body) {
    char *end = strstr(c->data, "\r\n\r\n");
    if (!end) return 0;
    *body = end + 4;
    char kept = *end;
    *end = 0;
    char *length = strcasestr(c->data, "\r\ncontent-length:");
    char *chunked = strcasestr(c->data, "\r\ntransfer-encoding: chunked");
    *end = kept;
    if (chunked) {
        char *last = strncmp(*body, "0\r\n\r\n", 5) ? strstr(*body, "\r\n0\r\n\r\n") : *body - 2;
        return last ? (size_t)(last + 7 - c->data) : 0;
    }
    size_t whole = (size_t)(*body - c->data) + (length ? (size_t)atol(length + 17) : 0);
    return whole <= c->length ? whole : 0;
}

static int answer(struct connection *c, const char *body) {
    if (!strncmp(c->data, "GET ", 4)) return send_text(c->fd, info);
    if (!strstr(body, "\"stream\":true") && !strstr(body, "\"stream\": true")) return send_text(c->fd, completion);
    c->left = number_after(body, "\"max_tokens\":", 100);
    c->interval = (uint64_t)number_after(body, "\"seed\":", 0) * 1000000u;
    c->usage = strstr(body, "\"include_usage\":true") || strstr(body, "\"include_usage\": true");
    c->due = now_ns() + c->interval;
    enter_queue(c);
    return send_text(c->fd, STREAM_HEAD);
}

/* Reads and answers; 0 when the connection is to be dropped. */
static int receive(struct connection *c) {
    ssize_t got = recv(c->fd, c->data + c->length, ROOM - c->length, 0);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    c->length += (size_t)got;
    c->data[c->length] = 0;
    char *body = c->data;
    size_t whole;
    while (!c->streams && (whole = request_length(c, &body))) {
        char kept = c->data[whole];
        c->data[whole] = 0;
        int alive = answer(c, body);
        c->data[whole] = kept;
        if (!alive) return 0;
        c->length -= whole;
        memmove(c->data, c->data + whole, c->length + 1);
    }
    return c->length < ROOM;
}

static int send_next(struct connection *c) {
    if (c->left-- > 0) {
        c->due += c->interval;
        enter_queue(c);
        return send_text(c->fd, c->left ? event : finish);
    }
    return (!c->usage || send_text(c->fd, usage)) && send_text(c->fd, LAST);
}

/* Everything that is due; the milliseconds until the next, -1 for none. */
static int send_due(void) {
    uint64_t now = now_ns();
    while (queue.after != &queue && queue.after->due <= now) {
        struct connection *c = queue.after;
        leave_queue(c);
        if (!send_next(c)) drop(c);
        else if (c->interval == 0) break;
    }
    if (queue.after == &queue) return -1;
    return queue.after->due <= now ? 0 : (int)((queue.after->due - now + 999999) / 1000000);
}

static void accept_all(int listener, int epoll) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *c = malloc(sizeof *c);
        if (!c) abort();
        c->fd = fd, c->length = 0, c->streams = 0;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted);
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, 4096)) {
        perror("backend: cannot listen");
        exit(1);
    }
    return fd;
}

int main(int count, char **arguments) {
    if (count != 2) return fprintf(stderr, "usage: backend PORT\n"), 2;
    snprintf(info, sizeof info, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
             sizeof INFO - 1, INFO);
    snprintf(completion, sizeof completion,
             "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", sizeof COMPLETION - 1,
             COMPLETION);
    snprintf(event, sizeof event, "%zx\r\n%s\r\n", sizeof EVENT - 1, EVENT);
    snprintf(finish, sizeof finish, "%zx\r\n%s\r\n", sizeof FINISH - 1, FINISH);
    snprintf(usage, sizeof usage, "%zx\r\n%s\r\n", sizeof USAGE - 1, USAGE);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = listen_on(atoi(arguments[1])), epoll = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = NULL}, ready[BATCH];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        int found = epoll_wait(epoll, ready, BATCH, send_due());
        for (int i = 0; i < found; i++) {
            struct connection *c = ready[i].data.ptr;
            if (!c) accept_all(listener, epoll);
            else if (!receive(c)) drop(c);
        }
    }
}
