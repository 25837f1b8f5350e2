# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# A name server on UDP, in a process of its own, for the "resolver" of nginx:
#
#     my $dns = Agntkey::Dns->new(port => free_port());
#     $dns->set('redis.example' => '127.0.0.1', '127.0.0.2');
#     $dns->set('redis.example' => 'NXDOMAIN');     # or SERVFAIL, silence
#
# It answers questions for A as it was told last, and those for AAAA with
# nothing; an answer lives for "ttl" seconds (1).

package Agntkey::Dns;

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket qw(AF_UNIX PF_UNSPEC SOCK_STREAM inet_aton);

my @servers;
my %code = (SERVFAIL => 2, NXDOMAIN => 3, REFUSED => 5);


sub new {
    my ($class, %opt) = @_;
    my $self = bless { owner => $$, ttl => 1, names => {}, asked => 0, %opt },
                     $class;

    my $udp = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Proto => 'udp',
    ) or die "dns: port $self->{port}: $!\n";

    socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC)
        or die "socketpair: $!\n";

    $self->{pid} = fork // die "fork: $!\n";

    if ($self->{pid} == 0) {
        close $ours;
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP __DIE__ __WARN__);

        eval { $self->loop($udp, $theirs) };
        warn "dns: $@" if $@;
        POSIX::_exit(0);
    }

    close $theirs;
    $self->{control} = $ours;

    push @servers, $self;
    return $self;
}


sub port { return $_[0]{port} }

# How many questions for an A record came so far.

sub asked { return $_[0]->ask('asked') }
sub set { my ($self, @words) = @_; return $self->ask("set @words") }


sub ask {
    my ($self, $line) = @_;

    syswrite $self->{control}, "$line\n";
    my $n = sysread $self->{control}, my $answer, 100;

    die "the name server is gone\n" if !$n;

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

END { $_->stop for @servers }


# --- the server's side

sub loop {
    my ($self, $udp, $control) = @_;
    my $select = IO::Select->new($udp, $control);

    for ( ;; ) {
        for my $sock ($select->can_read) {
            if ($sock == $control) {
                # The suite asks one thing at a time.
                sysread $control, my $line, 4096 or POSIX::_exit(0);
                my ($what, $name, @words) = split ' ', $line;

                $self->{names}{ lc $name } = \@words if $what eq 'set';
                syswrite $control, "$self->{asked}\n";

            } elsif (my $peer = recv $udp, my $query, 4096, 0) {
                my $answer = $self->answer($query);
                send $udp, $answer, 0, $peer if defined $answer;
            }
        }
    }
}


# RFC 1035, section 4.1; one question, never compressed.

sub answer {
    my ($self, $query) = @_;
    my ($id) = unpack 'n', $query;
    my ($pos, @labels) = (12);

    while (my $length = ord substr $query, $pos, 1) {
        push @labels, substr $query, $pos + 1, $length;
        $pos += $length + 1;
    }

    my ($type) = unpack 'n', substr $query, $pos + 1, 2;
    my $question = substr $query, 12, $pos + 5 - 12;
    my @words = @{ $self->{names}{ lc join '.', @labels } // ['NXDOMAIN'] };

    $self->{asked}++ if $type == 1;

    return undef if $words[0] eq 'silence';

    my $rcode = $code{ $words[0] } // 0;
    my @addrs = $rcode || $type != 1 ? () : @words;

    my $records = join '', map {
        pack('n n n N n', 0xc00c, 1, 1, $self->{ttl}, 4) . inet_aton($_)
    } @addrs;

    return pack('n6', $id, 0x8180 | $rcode, 1, scalar @addrs, 0, 0)
           . $question . $records;
}

1;
