/*
 * Copyright (C) the agntkey authors
 *
 * A model of how the workers' caches are kept coherent with Redis, and of the
 * receipt of a revocation. docs/coherence.md has the rules in words.
 * t/model/run has spin look at every state that the model can reach.
 *
 * The claim: a request that starts after a revocation has been answered is
 * never allowed, be it by a hit, by a look-up that it joins, or by its own.
 *
 * Each rule can be taken out by a name (-DNO_VOID and so on). The claim must
 * then fail, which shows that the rule is needed and that the model can tell.
 *
 * What is left out, and why nothing is lost by that
 *
 * Values.  One key, active at first, and one revocation: of the key, or of its
 * workspace. Keys do not meet in the protocol. A verdict needs both records,
 * and allows only if both are active; the one that is not revoked stays active.
 * A look-up may ask for the second record later than for the first. A record
 * that is not active allows nothing, and is not worth a place in the state.
 *
 * Look-ups.  One at a time for each worker, and it is chosen freely which. The
 * one that matters is the one that fills what is hit later, or is joined. The
 * others could only take an entry away.
 *
 * Commands.  Those of one connection may be carried out in any order, and late:
 * no rule relies on their order, but that of the fence, where a look-up and the
 * write ahead of it are one step. Commands of a connection that was lost may be
 * carried out later, too: a worker that leaves the registry, and a change that
 * makes the record active.
 *
 * Two primaries.  A replica may be promoted while the old primary goes on. From
 * then on that one takes no writes (min-replicas-to-write), and says what was
 * true. All connections lead there, and to the new one when they have been
 * lost, or not yet. The registry that the new one has is an old one: it knows
 * of nobody. The revoker is a client of the new one.
 *
 * Stalls, and losses that nobody sees.  Every step of a worker may come
 * arbitrarily late, or never. A worker that hangs, or is cut off, or whose
 * stream Redis has closed without its knowing, is one that does not read.
 *
 * Time.  All leases are equally long, LEASE ticks. A tick is a LEASEth of a
 * lease, and clocks are equal; for clocks that are not, and that have finite
 * steps, the waiting has a margin. Any run of the real thing that breaks the
 * claim is a run of the model, even with LEASE 1: only one comparison of a
 * worker with its lease matters, that of the hit or join that breaks it. Let
 * the ticks fall so that one of them is at the moment from which that lease
 * counts; then this comparison comes out as in reality. The others, that a
 * deadline has passed in the registry or for the revoker, come true in the
 * model no later than in reality, and the earlier the worse.
 *
 * Waiting.  Whatever makes the revoker wait longer only helps. So the model
 * forgets a member of the registry, and does not wait for it, once its worker
 * has lost a connection; and any member at the very end of its lease, where
 * Redis keeps it for one lease more. A stray renewal brings none back, the
 * revoker's clock starts when the barrier is carried out, and an
 * acknowledgement is there as soon as it is sent. With this, a worker that was
 * killed and its successor are a worker that has lost its connections.
 *
 * Workers.  They meet only in the revoker, which waits for all of them. Take
 * out of a run all but the one that breaks the claim, and the answer comes no
 * later: so one is enough. Two are tried because this is easier to believe, but
 * without late changes, second records and second primaries (PLAIN): that would
 * be too many states.
 *
 * What a rule makes void.  The canary, the role and strayed nonces are in the
 * model only where the rule about them is not: a worker that has the rule does
 * nothing until the canary has come and the role is right, and nothing because
 * of a nonce that is not the one under way.
 */

#ifndef WORKERS
#define WORKERS  2
#endif

#ifndef LEASE
#define LEASE    1
#endif

/* what a stream carries; OLD is a nonce that is not the one under way */

mtype = { INVALIDATION, BARRIER, NONCE, OLD, BACK };

#define NONE     0      /* of a command of a worker: there is none */
#define SENT     1
#define DONE     2      /* carried out; what it has caused is under way */
#define FIRST    3      /* of a look-up: one record was asked for, the one that
                           is revoked was not */

#define IDLE     0      /* of the revoker */
#define WRITTEN  1
#define WAITING  2      /* the barrier has been carried out */
#define ANSWERED 3      /* with 200 */
#define FAILED   4      /* with 503: nothing was promised */


/* Redis */

bool  in_force = true;          /* the record that is revoked */
bool  second;                   /* it is the second that a look-up asks for */
bool  pending;                  /* a change under way that makes it active */
byte  registered[WORKERS];      /* ticks until a member is dropped */
bool  restarted;                /* with the registry lost; happens once */
bool  unmarked;                 /* no script has noticed that yet */
bool  markless;                 /* and there is no mark that one could see */
byte  mark;                     /* ticks until it is a lease ago */
bool  replaced;                 /* there is a new primary; happens once */

/* what Redis has put on a stream, and the worker has not read */

chan  stream[WORKERS] = [8] of { mtype };

/* workers */

bool  up[WORKERS];              /* there is a stream */
bool  trusted[WORKERS];
byte  left[WORKERS];            /* ticks until the lease ends */
bool  entry[WORKERS];           /* an active record, of this epoch */

bool  old[WORKERS];             /* its connections lead to the old primary */

byte  lookup[WORKERS];          /* DONE: it has read an active record */
bool  fills[WORKERS];           /* it was sent while trusted */
bool  fenced[WORKERS];          /* it was sent without a write ahead of it */
bool  late[WORKERS];            /* it was sent after the answer */
byte  write[WORKERS];           /* ticks that a write has been accepted for */

byte  renewal[WORKERS];
byte  age[WORKERS];             /* ticks since it was sent */

byte  echo[WORKERS];            /* the round trip before acknowledging */

#ifdef REGISTER_AFTER_LEASE
bool  unregistered[WORKERS];
#endif

/* only a worker that uses its name again can be taken out of the registry */

#ifdef SAME_NAME
bool  leaving[WORKERS];
#endif

/* the revoker */

byte  revoker;
bool  awaited[WORKERS];         /* members that have not acknowledged */
byte  patience;                 /* ticks until they are waited out */
byte  caution;                  /* the same, for members that were lost */

bool  unreached;                /* stays false: what a witness asserts */


/*
 * A replica carries out what its primary sends in turns of its own, so that a
 * message overtakes an invalidation that it is later than. Only a worker who
 * does not ask for the role gets as far as using one.
 */

#ifdef NO_HELLO

bool  via[WORKERS];
chan  link[WORKERS] = [6] of { mtype };

#define TO(w, m)                                                             \
    if                                                                       \
    :: via[w]  -> assert(nfull(link[w])); link[w]!m                          \
    :: !via[w] -> assert(nfull(stream[w])); stream[w]!m                      \
    fi

#else

#define TO(w, m)  assert(nfull(stream[w])); stream[w]!m

#endif


/* only a worker who does not wait for the canary trusts a deaf stream */

#ifdef NO_CANARY
bool  deaf[WORKERS];
#define HEARS(w)  (!deaf[w])
#else
#define HEARS(w)  true
#endif


/* only a worker who does not compare takes a strayed nonce for its own */

#ifdef STALE_NONCE
bool  stray[WORKERS];           /* a lost connection had taken a renewal */
#endif


inline forget_lookup(w) {
    lookup[w] = NONE;
    fills[w] = false;
    fenced[w] = false;
    late[w] = false
}


/* PUBLISH: goes out at once */

inline publish(pw, pm) {
    if
    :: up[pw] && !old[pw] -> TO(pw, pm)
    :: else
    fi
}


inline invalidate(iw) {
    if
    :: up[iw] && !old[iw] && HEARS(iw) -> TO(iw, INVALIDATION)
    :: else
    fi
}


/* what the scripts of a renewal and of the barrier begin with */

inline notice_restart() {
    if
    :: unmarked ->
        unmarked = false;
        markless = false;
        mark = (revoker < WAITING -> LEASE : 0)
    :: else
    fi
}


/* Redis carries out a command of worker w */

inline carry_out(w) {
    if
    :: renewal[w] == SENT && old[w] -> renewal[w] = NONE     /* refused */

    :: renewal[w] == SENT && !old[w] ->
        notice_restart();
#ifdef REGISTER_AFTER_LEASE
        unregistered[w] = true;
#else
        registered[w] = (revoker < WAITING -> LEASE : 0);
#endif
        renewal[w] = DONE;
        publish(w, NONCE)

#ifdef STALE_NONCE
    :: stray[w] ->
        stray[w] = false;
        publish(w, OLD)
#endif
    :: echo[w] == SENT ->
        echo[w] = DONE;
        publish(w, BACK)

    :: lookup[w] == SENT && !old[w] ->
#ifndef PLAIN
        write[w] = (revoker < ANSWERED -> LEASE : 0);
#endif
        if
        :: in_force -> lookup[w] = DONE
        :: else   -> forget_lookup(w)
        fi

    :: lookup[w] == SENT && old[w] ->
        if
#ifdef NO_FENCE
        :: true -> lookup[w] = DONE
#else
        :: fenced[w] -> lookup[w] = DONE
        :: else -> forget_lookup(w)         /* the write is refused */
#endif
        fi

#ifdef SAME_NAME
    :: leaving[w] -> leaving[w] = false; registered[w] = 0
#endif

#ifdef REGISTER_AFTER_LEASE
    :: unregistered[w] && renewal[w] == NONE ->
        unregistered[w] = false;
        registered[w] = (revoker < WAITING -> LEASE : 0)
#endif
    fi
}


inline carry_out_barrier() {
#ifdef NO_MARK_NO_MATTER
    if
    :: !markless -> notice_restart()
    :: else
    fi;
#else
    notice_restart();
#endif

    if
#ifndef NO_RECHECK
    :: in_force -> revoker = FAILED
    :: !in_force ->
#else
    :: true ->
#endif
        revoker = WAITING;
        patience = LEASE;
#ifndef NO_MARK
        caution = mark;
#endif
#ifdef YOUNG_RECORDS
        /* a record that looks younger than the mark, and need not be */
        if
        :: caution = 0
        :: true
        fi;
#endif
        mark = 0;
        i = 0;
        do
        :: i < WORKERS ->
#ifndef NO_REGISTRY
            awaited[i] = (registered[i] > 0);
#endif
            registered[i] = 0;
            publish(i, BARRIER);
            i++
        :: else -> break
        od
    fi;
    i = 0
}


/*
 * Redis' loop. Invalidations of a turn go out at its end: what is published
 * after the write, in the same turn, is ahead of them. A turn without the write
 * is as good as one turn for each of its commands. Replies come after the turn,
 * so what is sent because of one is carried out in another.
 */

proctype redis() provided (revoker != FAILED)
{
    byte  i;

    do
    :: atomic { carry_out(0) }
#if WORKERS > 1
    :: atomic { carry_out(1) }
#endif

    :: atomic {
#ifdef NO_DEADLINE
        revoker == IDLE ->
#else
        /* whoever has sent that has been answered, so its time is over */
        revoker == IDLE && !pending ->
#endif

        in_force = false;
        revoker = WRITTEN;

#ifdef BARRIER_WITH_WRITE
        carry_out_barrier();
#endif
        do
        :: carry_out(0)
#if WORKERS > 1
        :: carry_out(1)
#endif
        :: break
        od;

        do
        :: i < WORKERS -> invalidate(i); i++
        :: else -> break
        od;
        i = 0
    }

    :: atomic { revoker == WRITTEN -> carry_out_barrier() }

    /* a change that was written to a connection which is lost; or it is late,
       and nothing comes of it */

    :: atomic {
        pending ->
        pending = false;
        if
        :: true ->
            assert(revoker != ANSWERED);
            in_force = true;
            do
            :: i < WORKERS -> invalidate(i); i++
            :: else -> break
            od;
            i = 0
        :: true
        fi
    }

#ifndef PLAIN
    /* a new primary, whose registry is behind */

    :: atomic {
        !replaced && revoker == IDLE ->

        replaced = true;
        unmarked = true;
        registered[0] = 0;
        old[0] = true;
#if WORKERS > 1
        registered[1] = 0;
        old[1] = true;
#endif
        if
        :: markless = true
        :: true
        fi
    }

#endif
    /* killed, and back from a disk that has not heard of what came last */

    :: atomic {
        !restarted && revoker < WAITING ->

        restarted = true;
        unmarked = true;
#ifndef PLAIN
        if
        :: markless = true
        :: true
        fi;
#endif
        registered[0] = 0;
#if WORKERS > 1
        registered[1] = 0;
#endif
        if
        :: revoker == WRITTEN -> in_force = true
        :: true
        fi
    }
    od
}


#ifdef NO_HELLO

/* a turn of a replica: the next message, or some, with the write among them */

proctype replica(byte w) provided (revoker != FAILED)
{
    mtype  m;

    do
    :: atomic {
        link[w]?m ->

        do
        :: m == INVALIDATION && nempty(link[w]) ->
            link[w]?m;
            assert(nfull(stream[w]));
            stream[w]!m;
            m = INVALIDATION
        :: break
        od;

        assert(nfull(stream[w]));
        stream[w]!m;
        m = 0
    }
    od
}

#endif


/* may a request be answered from memory now? */

#ifdef NO_LEASE
#define LEASED(w)  (trusted[w])
#else
#define LEASED(w)  (trusted[w] && left[w] > 0)
#endif

#ifdef JOIN_UNTRUSTED
#define JOINABLE(w)  (lookup[w] != NONE)
#else
#define JOINABLE(w)  (lookup[w] != NONE && fills[w])
#endif

#ifdef JOIN_WITHOUT_LEASE
#define MAY_JOIN(w)  (trusted[w] && JOINABLE(w))
#else
#define MAY_JOIN(w)  (LEASED(w) && JOINABLE(w))
#endif


/* the nonce has come: a lease, from the time when its renewal was sent */

inline take_lease(w) {
#ifdef LEASE_FROM_ARRIVAL
    left[w] = LEASE;
#else
    left[w] = LEASE - age[w];
#endif
    trusted[w] = true;
    renewal[w] = NONE;
    age[w] = 0
}




inline acknowledge(w) {
    awaited[w] = false
#ifdef SEEN_ACK
    ; assert(unreached)
#endif
}


proctype worker(byte w) provided (revoker != FAILED)
{
    do

    /* a request that finds the key in memory */

    :: atomic {
        entry[w] && LEASED(w) ->
        assert(revoker != ANSWERED)
#ifdef SEEN_HIT
        ; assert(unreached)
#endif
    }

#ifndef NO_JOIN
    /* one that joins a look-up; if that reads later, it reads the truth */

    :: atomic {
        MAY_JOIN(w) ->
        assert(revoker != ANSWERED || (lookup[w] != DONE && !old[w]))
#ifdef SEEN_JOIN
        ; assert(unreached)
#endif
    }
#endif

    /* one that sends a look-up */

    :: d_step {
        lookup[w] == NONE ->
        lookup[w] = (second -> FIRST : SENT);
        fills[w] = trusted[w];
#ifndef PLAIN
        fenced[w] = (write[w] > 0);
        late[w] = (revoker == ANSWERED)
#endif
    }

    /* for both records at once, or for the second one later */

    :: d_step { lookup[w] == FIRST -> lookup[w] = SENT }

    /* its reply, with an active record */

    :: atomic {
        lookup[w] == DONE ->

        /* what somebody asks on his own */
        assert(!late[w]);

        if
        :: fills[w] -> entry[w] = true
        :: else
        fi;
        forget_lookup(w)
#ifdef SEEN_OLD
        ; assert(unreached || !old[w])
#endif
    }

    /* the stream */

    :: atomic {
        stream[w]?INVALIDATION ->
        entry[w] = false
#ifndef NO_VOID
        ;
#ifdef SEEN_VOID
        assert(unreached || !(fills[w] && lookup[w] == DONE));
#endif
        if
#ifdef NO_VOID_SECOND
        :: second
#endif
        /* a record that was not asked for will be read as it is now */
        :: lookup[w] != NONE && lookup[w] != FIRST -> forget_lookup(w)
        :: else
        fi
#endif
    }

    :: atomic {
        stream[w]?BARRIER ->
#ifdef ACK_AT_ONCE
        acknowledge(w)
#else
        if
        :: awaited[w] -> echo[w] = SENT
        :: else
        fi
#endif
    }

    :: atomic {
        stream[w]?BACK ->
        if
        :: echo[w] == DONE -> echo[w] = NONE; acknowledge(w)
        :: else
        fi
    }

    :: d_step {
        stream[w]?NONCE ->
        if
        :: renewal[w] == DONE -> take_lease(w)
        :: else
        fi
    }

#ifdef STALE_NONCE
    :: d_step {
        stream[w]?OLD ->
        if
        :: renewal[w] != NONE ->
            stray[w] = (renewal[w] == SENT);
            take_lease(w)
        :: else
        fi
    }
#endif

#ifdef NONCE_BY_REPLY
    :: d_step { renewal[w] == DONE -> take_lease(w) }
#endif

    /* a new stream, to whatever is there: it may be a replica, or deaf */

    :: atomic {
        !up[w] ->
        up[w] = true;
        if
        :: true
#ifdef NO_CANARY
        :: deaf[w] = true
#endif
#ifdef NO_HELLO
        :: via[w] = true
#endif
        fi
    }

    /* with the canary heard, if there is a rule that it must be */

    :: d_step {
        up[w] && renewal[w] == NONE ->
        renewal[w] = SENT;
        age[w] = 0
    }

    /* a connection is lost, or a nonce late: both are made anew */

    :: d_step {
        up[w] ->

        do
        :: len(stream[w]) > 0 -> stream[w]?_
        :: else -> break
        od;
#ifdef NO_HELLO
        do
        :: len(link[w]) > 0 -> link[w]?_
        :: else -> break
        od;
        via[w] = false;
#endif
#ifdef NO_CANARY
        deaf[w] = false;
#endif
        up[w] = false;
        trusted[w] = false;
        left[w] = 0;
#ifdef SAME_NAME
        leaving[w] = true;
#endif
#ifndef NO_EPOCH
        entry[w] = false;
        forget_lookup(w);
#endif
#ifdef STALE_NONCE
        stray[w] = stray[w] || (renewal[w] == SENT);
#endif
        renewal[w] = NONE;
        age[w] = 0;
        echo[w] = NONE;
        registered[w] = 0;
        awaited[w] = false
    }

    /* both connections are made anew, to the new primary: what was written to
       the old one was carried out there, or never */

    :: d_step {
        !up[w] && old[w] ->
        old[w] = false;
        write[w] = 0;
        forget_lookup(w)
    }

    /*
     * A worker told to end answers nothing from memory any more, and then says
     * so: which is a loss. The wrong way round it is this.
     */

#ifdef LEAVE_FIRST
    :: d_step {
        registered[w] = 0;
        awaited[w] = false
    }
#endif
    od
}


#define SILENT  (awaited[0] || awaited[WORKERS - 1])

proctype revocation() provided (revoker != FAILED)
{
    do
    :: atomic {
        revoker == WAITING && caution == 0 && (!SILENT || patience == 0) ->
#ifdef SEEN_WAITED_OUT
        assert(unreached || !SILENT);
#endif
#ifdef SEEN_ANSWER
        assert(unreached);
#endif
        revoker = ANSWERED;

        assert(!in_force);

        patience = 0;
        awaited[0] = false;
        awaited[WORKERS - 1] = false;
        echo[0] = NONE;
        echo[WORKERS - 1] = NONE
    }
    od
}


inline count_down(t) {
    if
    :: t > 0 -> t--
    :: else
    fi
}


inline tick(w) {
    count_down(left[w]);
    count_down(write[w]);
    count_down(registered[w]);
    if
    :: renewal[w] != NONE && age[w] < LEASE -> age[w]++
    :: else
    fi
}


proctype time() provided (revoker != FAILED)
{
    do
    :: d_step {
        true ->
        tick(0);
#if WORKERS > 1
        tick(1);
#endif
        count_down(patience);
        count_down(caution);
        count_down(mark)
    }
    od
}


init {
    atomic {
#ifndef PLAIN
        if
        :: second = true
        :: true
        fi;
        if
        :: pending = true
        :: true
        fi;
#endif
        run redis();
        run worker(0);
#if WORKERS > 1
        run worker(1);
#endif
#ifdef NO_HELLO
        run replica(0);
#if WORKERS > 1
        run replica(1);
#endif
#endif
        run revocation();
        run time()
    }
}
