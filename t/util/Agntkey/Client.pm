# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# An HTTP/1.1 client for what a block cannot say: several requests at once,
# an order of events, a client that leaves.
#
#     my @waiting = map { http_start('GET /a', headers => bearer($key)) }
#                       1 .. 10;
#     is($_->response->{code}, 200) for @waiting;

package Agntkey::Client;

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use Socket qw(SO_LINGER SOL_SOCKET);
use Time::HiRes qw(time);

our @EXPORT = qw(http http_start);


# http('POST /x', headers => text or [lines], body => text, port => number,
#      timeout => 5): the response, see below.

sub http {
    my ($line, %opt) = @_;
    return http_start($line, %opt)->response($opt{timeout});
}


# The same, but does not wait.  "raw" is sent as it is.

sub http_start {
    my ($line, %opt) = @_;
    my $port = $opt{port} // $ENV{TEST_NGINX_SERVER_PORT}
               // $ENV{TEST_NGINX_PORT};
    my $headers = $opt{headers} // '';

    $headers = join "\n", @$headers if ref $headers;
    $headers .= "\nHost: localhost" if $headers !~ /^Host:/mi;
    $headers .= "\nConnection: close" if $headers !~ /^Connection:/mi;
    $headers .= "\nContent-Length: " . length $opt{body}
        if defined $opt{body} && $headers !~ /^(?:Content-Le|Transfer-E)/mi;
    $headers =~ s/\A\s+|\s+\z//g;
    $headers =~ s/\r?\n/\r\n/g;

    my $text = $opt{raw} // "$line HTTP/1.1\r\n$headers\r\n\r\n"
                            . ($opt{body} // '');

    my $sock = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $port, Proto => 'tcp')
        // die "cannot connect to nginx at $port: $!\n";

    my $self = bless { sock => $sock, in => '',
                       head => scalar($line =~ /^HEAD/) };

    $self->write($text);
    return $self;
}


sub write {
    my ($self, $text) = @_;

    local $SIG{PIPE} = 'IGNORE';

    while ($text ne '') {
        my $n = syswrite $self->{sock}, $text;

        # nginx may have answered already and closed.
        return 0 if !defined $n;
        substr $text, 0, $n, '';
    }

    return 1;
}


# True when bytes of a response came within so many seconds.

sub started {
    my ($self, $seconds) = @_;

    return 1 if $self->{in} ne '';

    vec(my $set = '', fileno $self->{sock}, 1) = 1;
    return select($set, undef, undef, $seconds // 0) > 0;
}


# { code, headers => { name in lower case => value }, body, raw, time,
#   timeout => true when the time was over }.  The next call reads the next
# response of the connection.

sub response {
    my ($self, $seconds) = @_;
    my $started = time;
    my $end = $started + ($seconds // 5);
    my $timeout = 0;

    until (defined $self->length_of_response) {
        my $left = $end - time;

        vec(my $set = '', fileno $self->{sock}, 1) = 1;

        if ($left <= 0 || !select $set, undef, undef, $left) {
            $timeout = 1;
            last;
        }

        my $n = sysread $self->{sock}, $self->{in}, 65536,
                        length $self->{in};
        last if !$n;
    }

    my $raw = substr $self->{in}, 0,
                     $self->length_of_response // length $self->{in}, '';

    my ($line, $fields, $body)
        = $raw =~ /\A([^\r]*)\r\n(.*?)\r\n\r\n(.*)\z/s;

    $line //= '';
    $body //= '';

    my %headers;

    for my $field (split /\r\n/, $fields // '') {
        my ($name, $value) = split /: */, $field, 2;
        $name = lc $name;
        $headers{$name} = join ', ', grep { defined } $headers{$name},
                                                      $value;
    }

    (undef, $body) = dechunk($body)
        if lc($headers{'transfer-encoding'} // '') eq 'chunked';

    return {
        code    => $line =~ m{^HTTP/\S+ (\d+)} ? $1 : '',
        headers => \%headers,
        body    => $body,
        raw     => $raw,
        timeout => $timeout,
        time    => time - $started,
    };
}


# How much of the input is the first response, or undef if only the end of
# the connection can tell.

sub length_of_response {
    my ($self) = @_;
    my $in = $self->{in};

    return undef if $in !~ /\A([^\r]*\r\n.*?\r\n\r\n)/s;

    my $head = $1;
    my $all = length $head;

    return $all if $self->{head} || $head =~ m{\AHTTP/\S+ (?:1..|204|304)};

    if ($head =~ /^Content-Length: *(\d+)\r$/mi) {
        return length $in >= $all + $1 ? $all + $1 : undef;
    }

    if ($head =~ /^Transfer-Encoding: *chunked\r$/mi) {
        my ($length) = dechunk(substr $in, $all);
        return defined $length ? $all + $length : undef;
    }

    return undef;
}


# The length of a chunked body at the start of a text, undef if it is not
# complete, and what it says.

sub dechunk {
    my ($text) = @_;
    my $body = '';
    my $pos = 0;

    while (substr($text, $pos) =~ /\A([0-9a-f]+)[^\r]*\r\n/i) {
        my $size = hex $1;

        $pos += $+[0];
        return ($pos + 2, $body) if $size == 0 && length $text >= $pos + 2;
        last if length $text < $pos + $size + 2;

        $body .= substr $text, $pos, $size;
        $pos += $size + 2;
    }

    return (undef, $body);
}


# Leaves without waiting: by RST, or in order ("fin").

sub leave {
    my ($self, $how) = @_;

    setsockopt $self->{sock}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0
        if ($how // 'rst') eq 'rst';
    close $self->{sock};
}

1;
