/* A small load generator: one thread, epoll, a closed loop over N connections; every answer is verified whole.
 *
 * load PORT HEAD_FILE BODY_FILE CONNECTIONS SECONDS [EVENTS] [new] [hold]
 *
 * Each connection sends head and body, reads the answer, checks it (status 200; length or chunks complete; a usage in it; with EVENTS: as
 * many `data: {` events and one `[DONE]`), and sends the next until SECONDS have passed; the last ones are waited for. SECONDS 0: one
 * request each. `new`: a new connection for each request. `hold`: prints "open" once every stream brought its first event, and
 * stays until it is ended, or until one of them fails. Prints one JSON object: counts, and microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 14, HEAD_ROOM = 1 << 13, LINE_ROOM = 12, BATCH = 512, STALLED_MS = 20000 };
enum body_kind { SIZED, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

/* Times in nanoseconds as a histogram: 128 buckets to each doubling, so within 1 %. */
struct histogram {
    uint64_t count, buckets[64 * 128];
};

struct connection {
    int fd, in_body, done, line_length, has_usage, ended;
    enum body_kind kind;
    uint64_t sent, previous, left, size;
    long events;
    size_t head_length, written, trailer_length;
    char head[HEAD_ROOM + 1], line[LINE_ROOM];
};

static struct histogram latency, first_event, gap;
static struct sockaddr_in there;
static char *message;
static size_t message_length;
static long expected_events = -1;
static int renews, holds, epoll;
static uint64_t stop_at, requests, errors, events, opened;
static long under_way, connections;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void record(struct histogram *h, uint64_t ns) {
    int shift = ns < 128 ? 0 : 63 - __builtin_clzll(ns) - 7;
    h->buckets[(shift << 7) + (int)(ns >> shift)]++;
    h->count++;
}

static double quantile_us(const struct histogram *h, double share) {
    uint64_t wanted = (uint64_t)(share * (double)h->count), seen = 0;
    for (int i = 0; i < 64 * 128; i++)
        if ((seen += h->buckets[i]) > wanted) {
            int shift = i < 256 ? 0 : (i >> 7) - 1;
            return (double)((uint64_t)(i - (shift << 7)) << shift) / 1000.0;
        }
    return 0;
}

static void print_quantiles(const char *name, const struct histogram *h) {
    printf(", \"%s_us\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f}", name, quantile_us(h, .5), quantile_us(h, .9),
           quantile_us(h, .99));
}

static void complain(const char *what, const struct connection *c) {
    if (errors++ < 3) fprintf(stderr, "load: %s; head: %.200s\n", what, c->head);
    if (holds) exit(1);
}

static void write_rest(struct connection *c) {
    while (c->written < message_length) {
        ssize_t sent = send(c->fd, message + c->written, message_length - c->written, MSG_NOSIGNAL);
        if (sent <= 0) return;
        c->written += (size_t)sent;
    }
}

static void connect_again(struct connection *c) {
    int one = 1, room = 1 << 18;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* So that a large request goes out in one piece: the kernel's first buffer has 16 KB. */
    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (connect(c->fd, (struct sockaddr *)&there, sizeof there) && errno != EINPROGRESS) complain(strerror(errno), c);
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &wanted);
}

static void begin(struct connection *c) {
    c->in_body = c->done = c->line_length = c->has_usage = c->ended = 0;
    c->head_length = c->written = c->trailer_length = 0;
    c->events = 0;
    c->sent = c->previous = now_ns();
    if (c->fd < 0) connect_again(c);
    write_rest(c);
}

static void end_connection(struct connection *c) {
    close(c->fd);
    c->fd = -1;
}

static void next_or_stop(struct connection *c) {
    if (now_ns() < stop_at) return begin(c);
    if (c->fd >= 0) end_connection(c);
    under_way--;
}

static void broken(struct connection *c, const char *what) {
    complain(what, c);
    end_connection(c);
    next_or_stop(c);
}

/* Lines of a stream are told apart by how they begin. */
static void line_ended(struct connection *c) {
    if (c->line_length >= 7 && !memcmp(c->line, "data: {", 7)) {
        uint64_t now = now_ns();
        record(c->events++ ? &gap : &first_event, now - c->previous);
        c->previous = now;
        events++;
        if (c->events == 1 && ++opened == (uint64_t)connections && holds) puts("open"), fflush(stdout);
    }
    if (c->line_length >= 12 && !memcmp(c->line, "data: [DONE]", 12)) c->ended++;
    c->line_length = 0;
}

static void content(struct connection *c, const char *data, size_t length) {
    if (expected_events < 0) {
        c->has_usage |= memmem(data, length, "\"usage\"", 7) != NULL;
        return;
    }
    const char *end = data + length;
    while (data < end) {
        const char *newline = memchr(data, '\n', (size_t)(end - data)), *stop = newline ? newline : end;
        for (; data < stop && c->line_length < LINE_ROOM; data++) c->line[c->line_length++] = *data;
        data = stop;
        if (newline) line_ended(c), data++;
    }
}

/* The body's framing, RFC 9112 section 6 and 7.1; returns the bytes taken. */
static size_t take(struct connection *c, const char *data, size_t length) {
    if (c->kind == SIZED || c->kind == CHUNK_DATA) {
        size_t part = length < c->left ? length : c->left;
        content(c, data, part);
        c->left -= part;
        if (!c->left) c->kind == SIZED ? (c->done = 1) : (c->kind = CHUNK_END);
        return part;
    }
    char one = *data;
    if (c->kind == CHUNK_SIZE) {
        if (one == '\n') c->kind = c->size ? CHUNK_DATA : TRAILER, c->left = c->size, c->size = 0;
        else if (one != '\r') c->size = c->size * 16 + (uint64_t)(one <= '9' ? one - '0' : (one | 32) - 'a' + 10);
    } else if (c->kind == CHUNK_END) {
        if (one == '\n') c->kind = CHUNK_SIZE;
    } else if (one == '\n') {
        c->done = c->trailer_length == 0;
        c->trailer_length = 0;
    } else if (one != '\r') c->trailer_length++;
    return 1;
}

/* Bytes of `data` that belong to the head; the rest is body. */
static size_t take_head(struct connection *c, const char *data, size_t length) {
    size_t before = c->head_length, part = length < HEAD_ROOM - before ? length : HEAD_ROOM - before;
    memcpy(c->head + before, data, part);
    c->head_length += part;
    c->head[c->head_length] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return part;
    end[2] = 0;
    size_t head_length = (size_t)(end + 4 - c->head);
    char *sized = strcasestr(c->head, "\r\ncontent-length:");
    c->kind = sized ? SIZED : CHUNK_SIZE;
    c->left = sized ? (uint64_t)atol(sized + 17) : 0;
    c->size = 0;
    c->in_body = 1;
    c->done = sized && !c->left;
    return head_length - before;
}

static const char *wrong_with(const struct connection *c) {
    if (strncmp(c->head, "HTTP/1.1 200", 12)) return "the status is not 200";
    if (expected_events < 0) return c->has_usage ? NULL : "an answer without usage";
    if (c->events != expected_events) return "the wrong number of events";
    return c->ended == 1 ? NULL : "a stream without [DONE]";
}

static void answered(struct connection *c) {
    const char *wrong = wrong_with(c);
    if (wrong) complain(wrong, c);
    record(&latency, now_ns() - c->sent);
    requests++;
    if (renews || strcasestr(c->head, "\r\nconnection: close")) end_connection(c);
    next_or_stop(c);
}

static void receive(struct connection *c) {
    char data[ROOM];
    while (c->fd >= 0) {
        ssize_t got = recv(c->fd, data, sizeof data, 0);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) return broken(c, got ? strerror(errno) : "the connection ended in the middle of an answer");
        for (size_t taken = 0; taken < (size_t)got && !c->done;)
            taken += c->in_body ? take(c, data + taken, (size_t)got - taken) : take_head(c, data + taken, (size_t)got - taken);
        if (!c->done && c->head_length == HEAD_ROOM && !c->in_body) return broken(c, "a head without an end");
        if (c->done) answered(c);
        /* A short read has emptied the socket; the next edge says when there is more. */
        if ((size_t)got < sizeof data) return;
    }
}

static void append(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) perror(path), exit(2);
    message = realloc(message, message_length + (1 << 20));
    message_length += fread(message + message_length, 1, 1 << 20, file);
    fclose(file);
}

static void run(void) {
    struct epoll_event ready[BATCH];
    while (under_way > 0) {
        int found = epoll_wait(epoll, ready, BATCH, STALLED_MS);
        if (found <= 0) {
            errors += (uint64_t)under_way;
            fprintf(stderr, "load: %ld answers did not come within %d s\n", under_way, STALLED_MS / 1000);
            return;
        }
        for (int i = 0; i < found; i++) {
            struct connection *c = ready[i].data.ptr;
            if (c->fd >= 0 && c->written < message_length && ready[i].events & EPOLLOUT) write_rest(c);
            if (c->fd >= 0 && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
        }
    }
}

int main(int count, char **arguments) {
    if (count < 6) return fprintf(stderr, "usage: load PORT HEAD BODY CONNECTIONS SECONDS [EVENTS] [new] [hold]\n"), 2;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    there = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    append(arguments[2]), append(arguments[3]);
    connections = under_way = atol(arguments[4]);
    for (int i = 6; i < count; i++) {
        if (!strcmp(arguments[i], "new")) renews = 1;
        else if (!strcmp(arguments[i], "hold")) holds = 1;
        else expected_events = atol(arguments[i]);
    }
    epoll = epoll_create1(0);
    uint64_t started = now_ns();
    stop_at = started + (uint64_t)(atof(arguments[5]) * 1e9);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    for (long i = 0; i < connections; i++) all[i].fd = -1, begin(&all[i]);
    run();
    printf("{\"requests\": %lu, \"errors\": %lu, \"seconds\": %.4f, \"events\": %lu", requests, errors,
           (double)(now_ns() - started) / 1e9, events);
    print_quantiles("latency", &latency);
    if (expected_events >= 0) print_quantiles("first_event", &first_event), print_quantiles("gap", &gap);
    puts("}");
}
