# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# A Redis that misbehaves on demand, in a process of its own.  It answers
# from the records that it was given, and the commands which a rule matches
# as that rule says:
#
#     fake_redis(keys  => ['one', ['two', workspace => 'other']],
#                rules => [{ match => qr/^HMGET/, nth => 2,
#                            do => { delay => 0.7 } }]);
#
# A rule has "match", a pattern for "COMMAND argument ...", and may have
# "nth" (only the match of that number, from 1), "from" and "times".  The
# first rule that applies is the only one.  "do" is a raw reply ("-ERR x\r\n"),
# the name of an action, or several actions with their values:
#
#     reply => bytes      instead of the usual reply
#     instead => bytes    the same, and what was to be done is not done; or a
#                         function of the command's arguments that returns
#                         any of these
#     delay => seconds    then reply; what follows on the connection waits
#     stall               never reply, nor to anything later
#     hold                the same, until fake_release()
#     swallow             no reply, but later commands have theirs
#     bytewise => gap     a byte at a time
#     split => offset     in two pieces, "gap" seconds (0.05) apart
#     duplicate           the reply twice
#     before, extra       unsolicited bytes ahead of or after the reply
#     close => n          n bytes of the reply (0), then the end (FIN)
#     reset => n          n bytes of the reply (half of it), then RST
#     invalidate => keys  tell the clients that track, before the reply
#
# or a function, called in the process of the fake with the arguments of the
# command and the usual reply: it returns any of the above.

package Agntkey::Fake;

use strict;
use warnings;

use IO::Handle;
use IO::Select;
use IO::Socket::INET;
use List::Util qw(min);
use POSIX ();
use Socket qw(AF_UNIX IPPROTO_TCP PF_UNSPEC SO_LINGER SOCK_STREAM
              SOL_SOCKET TCP_NODELAY);
use Time::HiRes qw(time sleep);

use Agntkey::FakeStore;
use Agntkey::Key;

my %actions = map { $_ => 1 } qw(
    before bytewise close delay duplicate extra gap hold instead invalidate
    reply reset split stall swallow
);

# Of the process that controls the fake:
my ($pid, $control, $log_file);
my $owner = $$;


# --- the suite's side

# start(keys => [...], records => {...} or [{...}, ...], rules => [...],
#       accept => 'close' | 'reset' | 'stall' | bytes, for each connection,
#                 or a list of these by the number of the connection,
#       port => number): the port.  A fake that runs is replaced.

sub start {
    my (%opt) = @_;
    my $port = $opt{port} // $ENV{TEST_NGINX_FAKE_PORT};

    stop();

    my @rules = map { +{ %$_, seen => 0 } } @{ $opt{rules} // [] };
    action($_->{do}) for grep { ref $_->{do} ne 'CODE' } @rules;

    my $listen = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1',
        LocalPort => $port,
        Proto     => 'tcp',
        Listen    => 511,
        ReuseAddr => 1,
    ) or die "fake redis: port $port: $!\n";

    socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC)
        or die "socketpair: $!\n";
    $_->autoflush(1) for $ours, $theirs;

    $log_file = Agntkey::test_dir() . '/fake.log';
    open my $log, '>', $log_file or die "$log_file: $!\n";
    $log->autoflush(1);

    $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        close $ours;

        # Not the caller's: its END blocks are not this process's to run.
        $SIG{$_} = 'DEFAULT' for qw(INT TERM __DIE__ __WARN__);
        $SIG{PIPE} = 'IGNORE';

        my $self = bless {
            listen => $listen, control => $theirs, log => $log,
            rules => \@rules, accept => $opt{accept}, conns => {},
            count => 0, control_in => '',
            store => Agntkey::FakeStore->new(records_of(\%opt)),
        };

        $self->{store}{invalidate} = sub { $self->tell_trackers(@_) };
        $self->{store}{publish} = sub { $self->publish(@_) };

        eval { $self->loop };
        print {$log} "! $@" if $@;
        POSIX::_exit(0);
    }

    close $theirs;
    $control = $ours;
    return $port;
}


sub records_of {
    my ($opt) = @_;
    my $records = $opt->{records} // {};
    my %all;

    for my $spec (@{ $opt->{keys} // [] }) {
        my ($label, %key) = ref $spec ? @$spec : $spec;
        my $workspace = $key{workspace} // 'acme';

        for my $set (key_records(key_for($label, %key), %key),
                     $key{no_workspace} ? () : workspace_records($workspace))
        {
            $all{$_} = { %{ $all{$_} // {} }, %{ $set->{$_} } }
                for keys %$set;
        }
    }

    $records = [$records] if ref $records ne 'ARRAY';
    %all = (%all, %$_) for @$records;
    return \%all;
}


sub stop {
    return if !$pid || $$ != $owner;

    local ($?, $!);
    kill 'KILL', $pid;
    waitpid $pid, 0;
    undef $pid;
    undef $control;
}


sub ask {
    my ($line) = @_;

    die "no fake redis runs\n" if !$control;

    print {$control} "$line\n";
    my $answer = <$control> // die "the fake redis is gone\n";

    chomp $answer;
    return $answer;
}


# Lines of the log: "+ connection" and "connection command ...".

sub log_lines {
    return () if !defined $log_file;

    # What was received before the question is written by its answer.
    ask('sync') if $control;

    open my $in, '<', $log_file or return ();
    chomp(my @lines = <$in>);

    warn "fake redis: $_\n" for grep { /^!/ } @lines;
    return @lines;
}


# commands(qr/^HGET/): what was received, one text for each command.

sub commands {
    my ($match) = @_;
    my @lines = map { /^\d+ (.*)/ ? $1 : () } log_lines();

    return grep { !defined $match || /$match/ } @lines;
}


sub connections { return scalar grep { /^\+/ } log_lines() }


# wait_for(qr/^HMGET/, 2, 5): true as soon as two such commands came, false
# after five seconds.

sub wait_for {
    my ($match, $n, $seconds) = @_;
    my $end = time + ($seconds // 5);

    for ( ;; ) {
        return 1 if commands($match) >= ($n // 1);
        return 0 if time > $end;
        sleep 0.01;
    }
}


# All of these return the number of connections that it came to.  A
# connection is its number, from 1, or 'last', 'all', 'tracking'.

sub release { return ask('release') }

sub send_to {
    my ($bytes, $which) = @_;
    return ask('send ' . ($which // 'all') . ' ' . unpack 'H*', $bytes);
}

sub close_conn {
    my ($which, $how) = @_;
    return ask('close ' . ($which // 'all') . ' ' . ($how // 'fin'));
}

# Without keys: as after FLUSHALL.

sub invalidate {
    return ask(join ' ', 'invalidate', map { unpack 'H*', $_ } @_);
}


# --- the fake's side

# Whatever a rule's "do" is, as a hash of actions.

sub action {
    my ($do) = @_;

    $do = /^[-+:\$*_,#(!=%~>|]/ ? { reply => $_ } : { $_ => undef }
        for grep { defined && !ref } $do;
    $do = { %{ $do // {} } };

    for my $name (keys %$do) {
        die "fake redis: no action \"$name\"\n" if !$actions{$name};
    }

    return $do;
}


sub loop {
    my ($self) = @_;

    for ( ;; ) {
        my $now = time;
        my ($read, $write) = (IO::Select->new, IO::Select->new);
        my @due;

        $read->add($self->{listen}, $self->{control});

        for my $conn (values %{ $self->{conns} }) {
            $self->flush($conn, $now);
            next if !$self->{conns}{ $conn->{id} };

            $read->add($conn->{sock}) if !$conn->{deaf};
            $write->add($conn->{sock}) if $conn->{blocked};

            my $item = $conn->{out}[0];
            push @due, $item->{at} if $item && $item->{at};
        }

        my $timeout = @due ? min(@due) - time : undef;
        $timeout = 0 if defined $timeout && $timeout < 0;

        my ($readable, $writable)
            = IO::Select->select($read, $write, undef, $timeout);

        delete $_->{blocked} for values %{ $self->{conns} };

        for my $sock (@{ $readable // [] }) {
            if ($sock == $self->{listen}) {
                $self->accept_one;

            } elsif ($sock == $self->{control}) {
                $self->obey;

            } else {
                my ($conn) = grep { $_->{sock} == $sock }
                             values %{ $self->{conns} };
                $self->read_from($conn) if $conn;
            }
        }
    }
}


sub accept_one {
    my ($self) = @_;
    my $sock = $self->{listen}->accept or return;
    my $id = ++$self->{count};
    my $how = $self->{accept};

    $how = $how->[$id - 1] if ref $how eq 'ARRAY';

    setsockopt $sock, IPPROTO_TCP, TCP_NODELAY, 1;
    $sock->blocking(0);

    my $conn = { id => $id, sock => $sock, in => '', out => [] };

    $self->{conns}{$id} = $conn;
    print { $self->{log} } "+ $id\n";

    return if !defined $how;

    if ($how eq 'close' || $how eq 'reset') {
        push @{ $conn->{out} }, { data => '', end => $how };

    } elsif ($how eq 'stall') {
        $conn->{deaf} = 1;

    } else {
        push @{ $conn->{out} }, { data => $how };
    }
}


sub read_from {
    my ($self, $conn) = @_;
    my $n = sysread $conn->{sock}, $conn->{in}, 65536, length $conn->{in};

    return if !defined $n && ($!{EAGAIN} || $!{EINTR});

    if (!$n) {
        print { $self->{log} } "- $conn->{id}\n";
        return $self->forget($conn);
    }

    # After our own FIN the rest is read only so that it causes no RST.
    return $conn->{in} = '' if $conn->{ended};

    while (my $argv = next_command(\$conn->{in})) {
        $self->command($conn, $argv);
    }
}


sub forget {
    my ($self, $conn) = @_;

    delete $self->{conns}{ $conn->{id} };
    close $conn->{sock};
}


# The next command of the buffer, or nothing while it is not complete.

sub next_command {
    my ($buf) = @_;

    $$buf =~ /\A\*(\d+)\r\n/g or return;

    my @argv;

    for (1 .. $1) {
        $$buf =~ /\G\$(\d+)\r\n/gc or return;

        my $from = pos $$buf;
        return if length $$buf < $from + $1 + 2;

        push @argv, substr $$buf, $from, $1;
        pos($$buf) = $from + $1 + 2;
    }

    substr $$buf, 0, pos $$buf, '';
    return \@argv;
}


sub command {
    my ($self, $conn, $argv) = @_;
    my $line = join ' ', map { s/([^!-~])/sprintf '\\x%02x', ord $1/ger }
                         @$argv;

    print { $self->{log} } "$conn->{id} $line\n";

    # The pattern sees the arguments as they came.
    my $do = $self->rule(join ' ', @$argv);
    my $usual;

    if (ref $do eq 'HASH' && exists $do->{instead}) {
        $do = $do->{instead};
        $do = ref $do ? $do->($argv) : { reply => $do };
        $usual = '';

    } else {
        $usual = $self->{store}->answer($conn, @$argv);
    }

    $do = $do->($argv, $usual) if ref $do eq 'CODE';
    $do = action($do);

    $self->tell_trackers(@{ $do->{invalidate} }) if $do->{invalidate};
    push @{ $conn->{out} }, items($do, $usual);
}


sub rule {
    my ($self, $line) = @_;

    for my $rule (@{ $self->{rules} }) {
        next if $line !~ $rule->{match};

        my $n = ++$rule->{seen};
        my $from = $rule->{from} // 1;

        next if defined $rule->{nth} && $n != $rule->{nth};
        next if $n < $from;
        next if defined $rule->{times} && $n >= $from + $rule->{times};

        return $rule->{do};
    }

    return undef;
}


# What is to be written, in pieces: each at a time ("at"), or "gap" seconds
# after the one before, or once it is released ("hold").

sub items {
    my ($do, $usual) = @_;
    my $reply = $do->{reply} // $usual;

    return { data => '', stall => 1 } if exists $do->{stall};
    return () if exists $do->{swallow};

    $reply .= $reply if exists $do->{duplicate};
    $reply = ($do->{before} // '') . $reply . ($do->{extra} // '');

    my ($end, $kept);

    if (exists $do->{reset}) {
        ($end, $kept) = ('reset', $do->{reset} // int(length($reply) / 2));

    } elsif (exists $do->{close}) {
        ($end, $kept) = ('close', $do->{close} // 0);
    }

    $reply = substr $reply, 0, $kept if $end;

    my @pieces = $reply;
    my $gap = $do->{gap} // 0.05;

    if (exists $do->{bytewise}) {
        @pieces = split //, $reply;
        $gap = $do->{bytewise} // 0.001;

    } elsif (defined $do->{split}) {
        @pieces = unpack "a$do->{split} a*", $reply;
    }

    my @items = map { +{ data => $_, gap => $gap } } @pieces;
    @items = { data => '' } if !@items;

    $_->{part} = 1 for @items[1 .. $#items];
    delete $items[0]{gap};
    $items[0]{at} = time + $do->{delay} if $do->{delay};
    $items[0]{hold} = 1 if exists $do->{hold};
    $items[-1]{end} = $end if $end;

    return @items;
}


sub flush {
    my ($self, $conn, $now) = @_;
    my $out = $conn->{out};

    while (my $item = $out->[0]) {
        return if $item->{hold} || $item->{stall};

        $item->{at} //= $now + $item->{gap} if $item->{gap};
        return if $item->{at} && $item->{at} > $now;
        delete @{$item}{qw(at gap)};

        while ($item->{data} ne '') {
            my $n = syswrite $conn->{sock}, $item->{data};

            if (!defined $n) {
                return $conn->{blocked} = 1 if $!{EAGAIN} || $!{EINTR};
                return $self->forget($conn);
            }

            substr $item->{data}, 0, $n, '';
            $item->{part} = 1;
        }

        shift @$out;
        return $self->end($conn, $item->{end}) if $item->{end};
    }
}


sub end {
    my ($self, $conn, $how) = @_;

    if ($how eq 'reset') {
        setsockopt $conn->{sock}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        return $self->forget($conn);
    }

    shutdown $conn->{sock}, 1;
    $conn->{ended} = 1;
    $conn->{out} = [];
}


sub chosen {
    my ($self, $which) = @_;
    my @conns = sort { $a->{id} <=> $b->{id} } values %{ $self->{conns} };

    return @conns if $which eq 'all';
    return @conns ? $conns[-1] : () if $which eq 'last';
    return grep { $_->{tracking} || $_->{subscribed} } @conns
        if $which eq 'tracking';
    return grep { $_->{id} == $which } @conns;
}


# Overtakes replies that wait or are held, but not one which has begun.

sub put_first {
    my ($conn, $data) = @_;
    my $out = $conn->{out};
    my $i = 0;

    $i++ while $i < @$out && $out->[$i]{part};
    splice @$out, $i, 0, { data => $data };
}


# As RESP3 has it, or RESP2: a message for those who subscribed.

sub tell_trackers {
    my ($self, @keys) = @_;
    my $list = @keys ? Agntkey::FakeStore::strings(@keys) : undef;
    my $told = 0;

    for my $conn ($self->chosen('tracking')) {
        my $message;

        if (($conn->{protocol} // 2) == 3) {
            next if !$conn->{tracking};
            $message = ">2\r\n\$10\r\ninvalidate\r\n" . ($list // "_\r\n");

        } else {
            next if !$conn->{subscribed};
            $message = "*3\r\n\$7\r\nmessage\r\n"
                       . "\$20\r\n__redis__:invalidate\r\n"
                       . ($list // "*-1\r\n");
        }

        put_first($conn, $message);
        $told++;
    }

    return $told;
}


# To those who listen to the channel; in its turn, unlike an invalidation.

sub publish {
    my ($self, $channel, $text) = @_;
    my $told = 0;

    for my $conn ($self->chosen('all')) {
        next if !($conn->{subscribed} // {})->{$channel};

        push @{ $conn->{out} },
            { data => Agntkey::FakeStore::strings('message', $channel,
                                                  $text) };
        $told++;
    }

    return $told;
}


sub obey {
    my ($self) = @_;
    my $n = sysread $self->{control}, $self->{control_in}, 65536,
                    length $self->{control_in};

    # The suite is gone.
    POSIX::_exit(0) if !$n;

    while ($self->{control_in} =~ s/\A(\S+) ?([^\n]*)\n//) {
        my ($name, @args) = ($1, split / /, $2);
        my $count = 0;

        if ($name eq 'release') {
            for my $item (map { @{ $_->{out} } } $self->chosen('all')) {
                $count++ if delete $item->{hold};
            }

        } elsif ($name eq 'send') {
            for my $conn ($self->chosen($args[0])) {
                put_first($conn, pack 'H*', $args[1]);
                $count++;
            }

        } elsif ($name eq 'close') {
            for my $conn ($self->chosen($args[0])) {
                $self->end($conn, $args[1] eq 'fin' ? 'close' : 'reset');
                $count++;
            }

        } elsif ($name eq 'invalidate') {
            $count = $self->tell_trackers(map { pack 'H*', $_ } @args);
        }

        # Sent before the answer, so that the suite may count on it.
        $self->flush($_, time) for values %{ $self->{conns} };
        print { $self->{control} } "$count\n";
    }
}

1;
