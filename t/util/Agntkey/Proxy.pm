# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# A TCP proxy in a process of its own, to put between nginx (or a replica)
# and a Redis: it can stop passing bytes, hold some of them back for a time,
# and cut or refuse connections.

package Agntkey::Proxy;

use strict;
use warnings;

use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use List::Util qw(max min);
use POSIX ();
use Socket qw(AF_UNIX IPPROTO_TCP PF_UNSPEC SO_LINGER SOCK_STREAM
              SOL_SOCKET TCP_NODELAY);
use Time::HiRes qw(time);

my @proxies;


# new(to => port, port => port): runs.

sub new {
    my ($class, %opt) = @_;
    my $self = bless { owner => $$, %opt }, $class;

    $self->{listen} = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1',
        LocalPort => $self->{port},
        Proto     => 'tcp',
        Listen    => 511,
        ReuseAddr => 1,
    ) or die "proxy: port $self->{port}: $!\n";

    socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC)
        or die "socketpair: $!\n";
    $_->autoflush(1) for $ours, $theirs;

    $self->{pid} = fork // die "fork: $!\n";

    if ($self->{pid} == 0) {
        close $ours;

        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP __DIE__ __WARN__);
        $SIG{PIPE} = 'IGNORE';

        $self->{control} = $theirs;
        @{$self}{qw(pairs orphans)} = ({}, []);

        eval { $self->loop };
        warn "proxy: $@" if $@;
        POSIX::_exit(0);
    }

    close $theirs;
    close delete $self->{listen};
    $self->{control} = $ours;

    push @proxies, $self;
    return $self;
}


sub port { return $_[0]{port} }


# pause('up'), ('down'), or both: bytes to or from the server stay where
# they are.  resume() passes them on.

sub pause { return $_[0]->ask('pause ' . ($_[1] // 'both')) }
sub resume { return $_[0]->ask('resume both') }

# pause_one('down', 3), cut_one(3): one connection of those that there are,
# by a number that may be too high; resume() ends this pause too.

sub pause_one { return $_[0]->ask("pause $_[1] $_[2]") }
sub cut_one { return $_[0]->ask("cut both $_[1]") }

# pause_after('down', 'EVAL'): the same for the connection on which a client
# sends that word, from then on.  With 'up' what has the word in it stays here.

sub pause_after { return $_[0]->ask("after $_[1] $_[2]") }

# On how many connections that has come true with 'up'.

sub held { return $_[0]->ask('held both') }

# hold_next('up', 'HDEL', 3): the next piece of data that way in which that
# text is ('': any) stays here for so many seconds, with all that follows it on
# its connection, and then goes on, whatever has become of who sent it.  With a
# count, the next so many do, on as many connections.  How many pieces have
# stayed, and how many of them have gone on.

sub hold_next {
    my ($self, $way, $text, $seconds, $count) = @_;
    return $self->ask(join ' ', 'hold', $way, $seconds, $count // 1,
                      unpack 'H*', $text);
}

sub stayed { return $_[0]->ask('stayed both') }
sub gone_on { return $_[0]->ask('gone_on both') }

# Every connection is reset, but what hold_next() holds on its way up still gets
# there; with refuse() new ones are reset too, up to accept().

sub cut { return $_[0]->ask('cut both') }
sub refuse { return $_[0]->ask('refuse both') }
sub accept { return $_[0]->ask('accept both') }

sub connections { return $_[0]->ask('count both') }


sub ask {
    my ($self, $line) = @_;

    print { $self->{control} } "$line\n";
    my $answer = readline $self->{control};

    die "the proxy is gone\n" if !defined $answer;

    chomp $answer;
    return $answer;
}


sub stop {
    my ($self) = @_;
    my $pid = delete $self->{pid};

    return if !$pid || $$ != $self->{owner};

    local ($?, $!);
    kill 'KILL', $pid;
    waitpid $pid, 0;
}

END { $_->stop for @proxies }


# --- the proxy's side

sub loop {
    my ($self) = @_;

    for ( ;; ) {
        my $read = IO::Select->new($self->{listen}, $self->{control});

        for my $side (values %{ $self->{pairs} }) {
            $read->add($side->{sock})
                if !$self->{paused}{ $side->{way} } && !$side->{paused}
                   && !defined $side->{until};
        }

        my @due = grep { defined }
                  map { $_->{until} } values %{ $self->{pairs} },
                                      @{ $self->{orphans} };
        my $left = @due ? max(0, min(@due) - time) : undef;

        for my $sock ($read->can_read($left)) {
            if ($sock == $self->{listen}) {
                $self->accept_one;

            } elsif ($sock == $self->{control}) {
                $self->obey;

            } elsif (my $side = $self->{pairs}{ fileno $sock // -1 }) {
                $self->pass($side);
            }
        }

        $self->let_go($_) for grep { defined $_->{until}
                                     && $_->{until} <= time }
                              values %{ $self->{pairs} },
                              @{ $self->{orphans} };

        for my $orphan (@{ $self->{orphans} }) {
            close $orphan->{to} if !defined $orphan->{until};
        }

        @{ $self->{orphans} } = grep { defined $_->{until} }
                                @{ $self->{orphans} };
    }
}


sub accept_one {
    my ($self) = @_;
    my $client = $self->{listen}->accept or return;

    my $server = $self->{refuse} ? undef : IO::Socket::INET->new(
        PeerAddr => '127.0.0.1',
        PeerPort => $self->{to},
        Proto    => 'tcp',
    );

    return reset_sock($client) if !$server;

    setsockopt $_, IPPROTO_TCP, TCP_NODELAY, 1 for $client, $server;

    # "way" is that of the bytes which this side sends us.
    $self->{pairs}{ fileno $client }
        = { sock => $client, to => $server, way => 'up' };
    $self->{pairs}{ fileno $server }
        = { sock => $server, to => $client, way => 'down' };
}


sub pass {
    my ($self, $side) = @_;
    my $n = sysread $side->{sock}, my $data, 65536;

    my $after = $self->{after};

    if ($n && $after && $side->{way} eq 'up'
        && index($data, $after->{word}) >= 0)
    {
        my $paused = $after->{way} eq 'up' ? $side
                     : $self->{pairs}{ fileno $side->{to} };

        $paused->{paused} = 1;
        $side->{held} = $data if $after->{way} eq 'up';
        delete $self->{after};
        return if $after->{way} eq 'up';
    }

    $data = delete($side->{held}) . $data if $n && defined $side->{held};

    my $hold = $self->{hold}{ $side->{way} };

    if ($n && $hold && index($data, $hold->{text}) >= 0) {
        delete $self->{hold}{ $side->{way} } if --$hold->{count} == 0;
        $self->{stayed}++;
        @{$side}{qw(until late)} = (time + $hold->{seconds}, $data);
        return;
    }

    return if $n && send_on($side, $data);

    delete @{ $self->{pairs} }{ map { fileno $_ } @{$side}{qw(sock to)} };
    close $_ for @{$side}{qw(sock to)};
}


sub let_go {
    my ($self, $side) = @_;

    $self->{gone_on}++;
    send_on($side, delete $side->{late});
    delete $side->{until};
}


sub send_on {
    my ($side, $data) = @_;

    # Blocking writes will do: both ends are local and read what they get.
    while (length $data) {
        my $sent = syswrite $side->{to}, $data or return 0;
        substr $data, 0, $sent, '';
    }

    return 1;
}


sub reset_sock {
    my ($sock) = @_;

    setsockopt $sock, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    close $sock;
}


sub obey {
    my ($self) = @_;

    # The suite asks one thing at a time.
    sysread $self->{control}, my $text, 4096 or POSIX::_exit(0);

    my ($name, $way, $number) = $text =~ /(\S+)/g;
    my @ways = $way eq 'both' ? qw(up down) : $way;
    my $count = keys(%{ $self->{pairs} }) / 2;

    if ($name eq 'after') {
        $self->{after} = { way => $way, word => $number };

    } elsif ($name eq 'hold') {
        my ($count, $hex) = ($text =~ /(\S+)/g)[3, 4];

        $self->{hold}{$way} = { seconds => $number, count => $count,
                                text => pack 'H*', $hex // '' };

    } elsif (defined $number) {
        $self->obey_one($name, $number, @ways) if $count;

    } elsif ($name eq 'pause') {
        $self->{paused}{$_} = 1 for @ways;

    } elsif ($name eq 'resume') {
        $self->{paused} = {};
        delete $self->{after};
        delete $_->{paused} for values %{ $self->{pairs} };

    } elsif ($name eq 'accept') {
        $self->{refuse} = 0;

    } elsif ($name eq 'cut' || $name eq 'refuse') {
        $self->{refuse} = 1 if $name eq 'refuse';
        $self->cut_pair($_) for grep { $_->{way} eq 'up' }
                                values %{ $self->{pairs} };
    }

    $count = grep { defined $_->{held} } values %{ $self->{pairs} }
        if $name eq 'held';
    $count = $self->{$name} // 0 if $name =~ /^(?:stayed|gone_on)$/;

    syswrite $self->{control}, "$count\n";
}


sub obey_one {
    my ($self, $name, $number, @ways) = @_;
    my $pairs = $self->{pairs};
    my @up = grep { $pairs->{$_}{way} eq 'up' }
             sort { $a <=> $b } keys %$pairs;
    my $up = $up[$number % @up];
    my %side = (up => $up, down => fileno $pairs->{$up}{to});

    if ($name eq 'pause') {
        $pairs->{ $side{$_} }{paused} = 1 for @ways;
        return;
    }

    $self->cut_pair($pairs->{$up});
}


# By its side towards the client.

sub cut_pair {
    my ($self, $up) = @_;
    my ($client, $server) = @{$up}{qw(sock to)};

    delete @{ $self->{pairs} }{ fileno $client, fileno $server };
    reset_sock($client);

    if (defined $up->{until}) {
        push @{ $self->{orphans} }, $up;
        return;
    }

    reset_sock($server);
}

1;
