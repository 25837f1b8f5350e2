# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# One keepalive connection, one request after the other.

package Bench::Client;

use strict;
use warnings;

use IO::Socket::INET;
use Socket qw(IPPROTO_TCP TCP_NODELAY);


sub new {
    my ($class, $port) = @_;
    my $sock = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port")
        or die "127.0.0.1:$port: $!\n";

    setsockopt $sock, IPPROTO_TCP, TCP_NODELAY, 1;
    return bless { sock => $sock, buf => '' }, $class;
}


sub sock { return $_[0]{sock} }


sub text {
    my ($path, $authorization, $method) = @_;

    return ($method // 'GET') . " $path HTTP/1.1\r\nHost: bench\r\n"
           . (length $authorization ? "Authorization: $authorization\r\n" : '')
           . ($method ? "Content-Length: 0\r\n" : '') . "\r\n";
}


# The status of the answer; the whole is in $self->{answer}.

sub ask {
    my ($self, $text) = @_;

    $self->send($text);
    return $self->receive;
}


sub send {
    my ($self, $text) = @_;
    syswrite $self->{sock}, $text or die "request: $!\n";
}


sub receive {
    my ($self) = @_;

    $self->more until $self->{buf} =~ /\r\n\r\n/;

    my $head = $+[0];
    my ($length) = substr($self->{buf}, 0, $head)
                   =~ /^Content-Length: (\d+)/mi;
    my $all = $head + ($length // 0);

    $self->more until length $self->{buf} >= $all;

    $self->{answer} = substr $self->{buf}, 0, $all, '';
    return substr $self->{answer}, 9, 3;
}


sub more {
    my ($self) = @_;

    sysread $self->{sock}, $self->{buf}, 65536, length $self->{buf}
        or die "no answer: ", $! || 'the connection was closed', "\n";
}

1;
