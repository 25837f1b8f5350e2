
/*
 * Copyright (C) the agntkey authors
 *
 * Clients for t/system/random.t: many connections, kept and new ones, that
 * ask with keys chosen at random, and a log line for each request.
 *
 *     load SEED RATE BUSY LAZY PORT... < orders > log
 *
 * BUSY connections ask RATE times a second between them; LAZY ones wait for
 * up to two seconds between two requests, so that some ask a worker that
 * has been stopped meanwhile.  Each connection goes to one of the ports.
 *
 * An order is a line:
 *
 *     K SLOT WEIGHT SERIAL KEY    what the slot holds, how often it is taken
 *     Q                           no new requests; ends when all are answered
 *
 * and so is a request:
 *
 *     R START END SERIAL CODE CACHE PID
 *
 * Times are microseconds of CLOCK_MONOTONIC: START is read before the request
 * is sent and rounded down, END after the head of the response has been read
 * and rounded up.  CODE 0 is a broken connection or a client that has lost
 * its patience.  CACHE and PID are headers of the response, or "-".
 */


#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>


#define SLOTS    1024
#define CLIENTS  1024
#define PORTS    8

#define MS       UINT64_C(1000)
#define SECOND   UINT64_C(1000000)

/* longer than any fault lasts, so that what a stopped worker says is heard */
#define PATIENT  (10 * SECOND)
#define HASTY    (400 * MS)


typedef struct {
    unsigned          weight;
    long              serial;
    char              key[128];
} slot_t;


typedef enum {
    CLOSED = 0,
    CONNECTING,
    IDLE,
    HEAD,
    BODY
} state_e;


typedef struct {
    int               fd;
    state_e           state;
    int               lazy;
    uint64_t          patience;

    /* when it asks next, or gives up */
    uint64_t          due;

    /* requests that this connection is still good for */
    unsigned          left;

    uint64_t          start;
    long              serial;

    size_t            len;
    size_t            body;
    char              in[8192];
} client_t;


static slot_t    slots[SLOTS];
static unsigned  total;

static client_t  clients[CLIENTS];
static int       nclients;

static int       ports[PORTS];
static int       nports;

static double    think;
static uint64_t  state;
static int       ep;
static int       quit;


static uint64_t
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * SECOND + (uint64_t) ts.tv_nsec / 1000;
}


/* xorshift64*, by Marsaglia and Vigna */

static uint64_t
chance(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;

    return (state * UINT64_C(0x2545f4914f6cdd1d)) >> 16;
}


static uint64_t
pause_of(client_t *c)
{
    double  u;

    if (c->lazy) {
        return 100 * MS + chance() % (2 * SECOND);
    }

    u = (double) (chance() % 1000000 + 1) / 1e6;

    return (uint64_t) (-log(u) * think);
}


static void
disconnect(client_t *c)
{
    if (c->state != CLOSED) {
        close(c->fd);
    }

    c->state = CLOSED;
    c->due = now() + pause_of(c);
}


static void
note(client_t *c, int code, const char *cache, const char *pid)
{
    printf("R %" PRIu64 " %" PRIu64 " %ld %d %s %s\n",
           c->start, now() + 1, c->serial, code, cache, pid);
}


static void
watch(client_t *c, int op, uint32_t events)
{
    struct epoll_event  ev;

    ev.events = events;
    ev.data.ptr = c;

    if (epoll_ctl(ep, op, c->fd, &ev) == -1) {
        perror("epoll_ctl");
        exit(1);
    }
}


static slot_t *
choose(void)
{
    int       i;
    unsigned  n;

    n = chance() % total;

    for (i = 0; i < SLOTS - 1; i++) {
        if (n < slots[i].weight) {
            break;
        }

        n -= slots[i].weight;
    }

    return &slots[i];
}


static void
ask(client_t *c)
{
    int      n;
    char     out[512];
    slot_t  *slot;

    if (total == 0) {
        c->due = now() + 10 * MS;
        return;
    }

    slot = choose();

    n = snprintf(out, sizeof(out),
                 "GET /t HTTP/1.1\r\n"
                 "Host: localhost\r\n"
                 "Authorization: Bearer %s\r\n"
                 "\r\n", slot->key);

    c->serial = slot->serial;
    c->state = HEAD;
    c->len = 0;
    c->left--;

    c->start = now();
    c->due = c->start + c->patience;

    /* a socket with nothing in it takes so little at once, or is broken */

    if (send(c->fd, out, n, MSG_NOSIGNAL) != n) {
        note(c, 0, "-", "-");
        disconnect(c);
    }
}


static void
open_one(client_t *c)
{
    int                 on = 1, rc;
    struct sockaddr_in  sin;

    memset(&sin, 0, sizeof(sin));
    sin.sin_family = AF_INET;
    sin.sin_port = htons(ports[chance() % nports]);
    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    c->fd = socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0);
    if (c->fd == -1) {
        perror("socket");
        exit(1);
    }

    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));

    c->left = 1 + chance() % (c->lazy ? 4 : 300);
    c->state = CONNECTING;

    rc = connect(c->fd, (struct sockaddr *) &sin, sizeof(sin));

    if (rc == -1 && errno != EINPROGRESS) {
        disconnect(c);
        return;
    }

    c->due = now() + c->patience;
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}


static const char *
header(char *head, const char *name, char *value, size_t size)
{
    char    *p;
    size_t   n;

    n = strlen(name);

    for (p = strstr(head, "\r\n"); p; p = strstr(p, "\r\n")) {
        p += 2;

        if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
            p += n + 1;
            p += strspn(p, " ");
            n = strcspn(p, " \r\n");

            if (n == 0 || n >= size) {
                return "-";
            }

            memcpy(value, p, n);
            value[n] = '\0';
            return value;
        }
    }

    return "-";
}


static void
answered(client_t *c)
{
    if (c->left == 0) {
        disconnect(c);
        return;
    }

    c->state = IDLE;
    c->due = now() + pause_of(c);
}


static void
parse(client_t *c)
{
    int          code;
    char        *end, cache[16], pid[16], length[16], value[16];
    size_t       head;
    const char  *text;

    c->in[c->len] = '\0';

    end = strstr(c->in, "\r\n\r\n");

    if (end == NULL) {
        if (c->len == sizeof(c->in) - 1) {
            note(c, 0, "-", "-");
            disconnect(c);
        }

        return;
    }

    head = end + 4 - c->in;
    end[2] = '\0';

    code = 0;
    sscanf(c->in, "HTTP/1.1 %3d", &code);

    note(c, code, header(c->in, "X-Cache", cache, sizeof(cache)),
         header(c->in, "X-Pid", pid, sizeof(pid)));

    if (strcmp(header(c->in, "Connection", value, sizeof(value)), "close")
        == 0)
    {
        c->left = 0;
    }

    text = header(c->in, "Content-Length", length, sizeof(length));
    c->body = strtoul(text, NULL, 10);

    if (text != length || c->body < c->len - head) {
        disconnect(c);
        return;
    }

    c->body -= c->len - head;
    c->state = BODY;

    if (c->body == 0) {
        answered(c);
    }
}


static void
take(client_t *c)
{
    char     rest[8192];
    ssize_t  n;

    if (c->state == HEAD) {
        n = recv(c->fd, c->in + c->len, sizeof(c->in) - 1 - c->len, 0);

    } else {
        n = recv(c->fd, rest, sizeof(rest), 0);
    }

    if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }

    if (n <= 0) {
        if (c->state == HEAD) {
            note(c, 0, "-", "-");
        }

        disconnect(c);
        return;
    }

    switch (c->state) {

    case HEAD:
        c->len += n;
        parse(c);
        break;

    case BODY:
        c->body -= (size_t) n < c->body ? (size_t) n : c->body;

        if (c->body == 0) {
            answered(c);
        }

        break;

    default:
        /* nobody asked */
        disconnect(c);
    }
}


static void
connected(client_t *c)
{
    int        err = 0;
    socklen_t  len = sizeof(err);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) == -1 || err) {
        disconnect(c);
        return;
    }

    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->state = IDLE;
    ask(c);
}


static void
due(client_t *c)
{
    switch (c->state) {

    case CLOSED:
        open_one(c);
        break;

    case IDLE:
        ask(c);
        break;

    case HEAD:
        note(c, 0, "-", "-");

        /* fall through */

    default:
        disconnect(c);
    }
}


static void
order(char *line)
{
    int     n;
    slot_t  slot;

    memset(&slot, 0, sizeof(slot));

    if (strcmp(line, "Q") == 0) {
        quit = 1;
        return;
    }

    if (sscanf(line, "K %d %u %ld %127s", &n, &slot.weight, &slot.serial,
               slot.key) != 4
        || n < 0 || n >= SLOTS)
    {
        fprintf(stderr, "load: bad order\n");
        exit(1);
    }

    total += slot.weight - slots[n].weight;
    slots[n] = slot;
}


static void
orders(void)
{
    char          *p, *end;
    ssize_t        n;
    static char    in[65536];
    static size_t  len;

    n = read(STDIN_FILENO, in + len, sizeof(in) - 1 - len);

    if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }

    if (n <= 0) {
        quit = 1;
        epoll_ctl(ep, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
        return;
    }

    len += n;
    in[len] = '\0';

    for (p = in; (end = strchr(p, '\n')) != NULL; p = end + 1) {
        *end = '\0';
        order(p);
    }

    len = strlen(p);
    memmove(in, p, len);
}


static int
turn(void)
{
    int                 i, n, open;
    uint64_t            next, t;
    client_t           *c;
    struct epoll_event  events[64];

    t = now();
    next = t + 50 * MS;
    open = 0;

    for (i = 0; i < nclients; i++) {
        c = &clients[i];

        if (quit && c->state <= IDLE) {
            disconnect(c);
            continue;
        }

        if (c->due <= t) {
            due(c);
        }

        if (c->due < next) {
            next = c->due;
        }

        open += c->state != CLOSED;
    }

    if (quit && open == 0) {
        return 0;
    }

    t = now();

    n = epoll_wait(ep, events, 64,
                   next > t ? (int) ((next - t + MS - 1) / MS) : 0);

    for (i = 0; i < n; i++) {
        c = events[i].data.ptr;

        if (c == NULL) {
            orders();

        } else if (c->state == CONNECTING) {
            connected(c);

        } else if (c->state != CLOSED) {
            take(c);
        }
    }

    return 1;
}


int
main(int argc, char **argv)
{
    int                 i, busy, lazy;
    double              rate;
    client_t           *c;
    struct epoll_event  ev;

    if (argc < 6 || argc > 5 + PORTS) {
        fprintf(stderr, "usage: load SEED RATE BUSY LAZY PORT...\n");
        return 2;
    }

    /* never 0, from which nothing would come */
    state = strtoull(argv[1], NULL, 10) * 2 + 1;
    rate = atof(argv[2]);
    busy = atoi(argv[3]);
    lazy = atoi(argv[4]);

    for (i = 5; i < argc; i++) {
        ports[nports++] = atoi(argv[i]);
    }

    nclients = busy + lazy;

    if (rate <= 0 || busy < 0 || lazy < 0 || nclients > CLIENTS) {
        fprintf(stderr, "load: bad numbers\n");
        return 2;
    }

    think = busy / rate * SECOND;

    for (i = 0; i < 32; i++) {
        chance();
    }

    ep = epoll_create1(EPOLL_CLOEXEC);

    ev.events = EPOLLIN;
    ev.data.ptr = NULL;

    if (ep == -1 || epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &ev) == -1) {
        perror("epoll");
        return 1;
    }

    for (i = 0; i < nclients; i++) {
        c = &clients[i];
        c->lazy = i >= busy;
        c->patience = !c->lazy && i % 2 ? HASTY : PATIENT;
        c->due = now() + pause_of(c);
    }

    while (turn()) { /* void */ }

    return fflush(stdout) == 0 ? 0 : 1;
}
