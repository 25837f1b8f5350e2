# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Stands in for the part of Test::Nginx::Socket (CPAN) that the suites here
# use, on Test::Base and core Perl, where that module is not installed.  A
# block must count the same tests and pass or fail for the same reasons with
# either of the two.  This file is the client's half: requests and checks.

package Test::Nginx::Socket;

use strict;
use warnings;

# In lower case: a subclass, without the source filter of "-Base".
use Test::Base -base;

use Digest::MD5 ();
use Digest::SHA ();
use Errno qw(EAGAIN EINTR);
use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(sleep time);

use Test::Nginx::Util;

our @EXPORT = qw(
    env_to_nginx is_str plan run_tests run_test repeat_each
    config_preamble worker_connections master_process_enabled
    no_long_string workers master_on master_off log_level no_shuffle
    no_root_location use_hup server_name server_addr server_root html_dir
    server_port server_port_for_client timeout no_nginx_manager
    check_accum_error_log add_block_preprocessor bail_out
    add_test_cleanup_handler add_cleanup_handler add_response_body_check
);

our @ResponseBodyChecks;

$RunTestHelper = \&run_test_helper;
$CheckErrorLog = \&check_error_log;
$Test::Nginx::Util::CheckShutdownErrorLog = \&check_shutdown_error_log;

sub run_test ($);
*run_test = \&Test::Nginx::Util::run_test;

sub add_response_body_check ($) { push @ResponseBodyChecks, shift }


sub is_str (@) {
    my ($got, $expected, $title) = @_;

    return ref $expected eq 'Regexp'
           ? Test::More::like($got, $expected, $title)
           : is($got, $expected, $title);
}


# --- requests

# A header section for a request, and whether the body is already chunked.

sub more_headers_text {
    my ($text) = @_;
    my ($out, $chunked) = ('', 0);

    for my $line (split /\n+/, $text // '') {
        next if $line =~ /^\s*#/;

        my ($name, $value) = split /:\s*/, $line, 2;
        $value //= '';

        $chunked = 1 if lc $name eq 'transfer-encoding'
                        && $value eq 'chunked';
        $out .= "$name: $value\r\n";
    }

    return ($out, $chunked);
}


# "METHOD [url [version]]", then the body: completed with what a client
# sends.  The text may come in packets, whose borders are kept.

sub complete_request {
    my ($name, $headers, $connection, @packets) = @_;
    my $text = join '', map { $_ // '' } @packets;
    my ($more, $chunked) = more_headers_text($headers);

    bail_out("$name - the request is empty") if $text eq '';

    my ($lead, $method, $gap1, $url, $gap2, $version, $end, $body)
        = $text =~ /\A(\s*)(\S+)(?:([ ]+)(\S+)(?:([ ]+)(\S+))?)?
                    ([ ]*(?:\r?\n|\z))(.*)\z/xs
        or bail_out("$name - no request line: $text");

    my $sent = $body;
    my $length = '';

    if ($body ne '' && !$chunked && $more !~ /^Content-Length:/m) {
        $sent =~ s/^\s+|\s+$//g;
        $length = 'Content-Length: ' . length($sent) . "\r\n";
    }

    $more = "Connection: $connection\r\n$more" if $more !~ /^Connection/mi;
    $more = "Host: $ServerName\r\n$more" if $more !~ /^Host:/mi;

    # Pairs of what was written and what is sent in its place.
    my @parts = (
        [$lead, ''], [$method, $method], [$gap1 // '', ' '],
        [$url // '', $url // '/'], [$gap2 // '', ' '],
        [$version // '', $version // 'HTTP/1.1'],
        [$end, "\r\n$more$length\r\n"], [$body, $sent],
    );

    return cut_packets(\@parts, map { length($_ // '') } @packets);
}


sub cut_packets {
    my ($parts, @lengths) = @_;
    my $out = join '', map { $_->[1] } @$parts;
    my @packets;
    my ($border, $from) = (0, 0);

    pop @lengths;

    for my $length (@lengths) {
        $border += $length;

        my ($in, $to) = (0, 0);

        for my $part (@$parts) {
            my ($old, $new) = map { length } @$part;

            if ($in + $old >= $border) {
                my $rest = $border - $in;
                $to += $rest < $new ? $rest : $new;
                last;
            }

            $in += $old;
            $to += $new;
        }

        push @packets, substr $out, $from, $to - $from;
        $from = $to;
    }

    return (@packets, substr $out, $from);
}


# A list of requests, each a list of { value, delay_before }.

sub requests_of {
    my ($block) = @_;
    my $name = $block->name;
    my $raw = $block->raw_request;
    my $headers = $block->more_headers;

    if (defined $raw) {
        return [map { { value => $_ } } ref $raw ? @$raw : $raw];
    }

    my $headers_for = sub {
        my ($i) = @_;

        return $headers if ref $headers ne 'ARRAY';
        return $headers->[$i]
               // bail_out("$name - more_headers lacks those of request $i");
    };

    if (my $list = $block->pipelined_requests) {
        bail_out("$name - pipelined_requests is not a list")
            if ref $list ne 'ARRAY';

        my $text = '';

        for my $i (0 .. $#$list) {
            my $request = expand_env_in_text(
                $list->[$i], $name, $Test::Nginx::Util::RandPorts);

            ($request) = complete_request(
                $name, $headers_for->($i),
                $i == $#$list ? 'close' : 'keep-alive', $request);
            $text .= $request;
        }

        return [{ value => $text }];
    }

    my $request = $block->request;

    if (!ref $request) {
        if (defined $request) {
            1 while $request =~ s/\A\s*#[^\n]+\s+|\A\s+//;
        }

        $request = [$request];
    }

    my @requests;

    for my $i (0 .. $#$request) {
        my @packets = ref $request->[$i] ? @{ $request->[$i] }
                                         : $request->[$i];
        my @values = map { ref $_ ? $_->{value} : $_ } @packets;
        my @sent = complete_request($name, $headers_for->($i), 'close',
                                    @values);

        push @requests, [map {
            my $packet = ref $packets[$_] ? $packets[$_] : {};
            +{ %$packet, value => $sent[$_] };
        } 0 .. $#sent];
    }

    return @requests;
}


sub connect_to_nginx {
    my ($block, $timeout) = @_;
    my $name = $block->name;
    my $addr = $block->server_addr_for_client // $ServerAddr;
    my $end = time + 5;

    for ( ;; ) {
        my $sock = IO::Socket::INET->new(
            PeerAddr => $addr,
            PeerPort => $ServerPortForClient,
            Proto    => 'tcp',
            Timeout  => $timeout,
        );

        if ($sock) {
            $sock->blocking(0);
            return $sock;
        }

        if (time > $end) {
            fail("$name - cannot connect to $addr:$ServerPortForClient: $!");
            return undef;
        }

        sleep 0.02;
    }
}


# Sends the packets while it reads, up to the end of the connection; the
# timeout is the longest time without progress.

sub exchange {
    my ($block, $packets, $timeout) = @_;
    my $name = $block->name;
    my $sock = connect_to_nginx($block, $timeout) or return '';
    my $select = IO::Select->new($sock);

    my ($answer, $pending, $next) = ('', '', 0);
    my $writing = 1;

    local $SIG{PIPE} = 'IGNORE';

    for ( ;; ) {
        if ($writing && $pending eq '') {
            if ($next < @$packets) {
                my $packet = $packets->[$next];
                my $delay = $next == 0 ? 0 : $packet->{delay_before}
                            // $block->raw_request_middle_delay // 0;

                sleep $delay if $delay;
                $pending = $packet->{value};
                $next++;
                next;
            }

            $writing = 0;
            half_close($block, $sock);
        }

        my ($readable, $writable) = IO::Select->select(
            $select, $writing ? $select : undef, undef, $timeout);

        if (!$readable) {
            next if $!{EINTR};

            fail("$name - the response ends in time")
                if !defined $block->abort;
            last;
        }

        if (@$writable) {
            my $n = syswrite $sock, $pending;

            if (defined $n) {
                substr $pending, 0, $n, '';

            } elsif (!$!{EAGAIN} && !$!{EINTR}) {
                warn "$name - write failed: $!\n";
                $writing = 0;
            }
        }

        if (@$readable) {
            my $n = sysread $sock, $answer, 65536, length $answer;

            last if defined $n && $n == 0;

            if (!defined $n && !$!{EAGAIN} && !$!{EINTR}) {
                warn "$name - read failed: $!\n";
                last;
            }
        }
    }

    close $sock;
    return $answer;
}


sub half_close {
    my ($block, $sock) = @_;
    my $how = $block->shutdown;

    return if !defined $how;

    $how = 1 if $how =~ /^\s*$/;
    shutdown $sock, $how;
}


# --- responses

# The text of one response cut off the front of what was received; what is
# left of it comes back too, for the next one of a pipeline.

sub parse_response {
    my ($name, $text, $head) = @_;
    my $self = bless { fields => [], content => '', raw_headers => '' },
                     'Test::Nginx::Socket::Response';

    my ($line, $fields, $body)
        = $text =~ /\A([^\r\n]*\r?\n)(.*?\r?\n|)\r?\n(.*)\z/s;

    if (!defined $line) {
        $self->{content} = $text;
        return ($self, '');
    }

    $self->{raw_headers} = $line . $fields;
    $self->{code} = $1 if $line =~ m{^HTTP/\d+\.\d+ +(\d+)};

    for my $field (split /\r?\n/, $fields) {
        my ($key, $value) = split /\s*:\s*/, $field, 2;
        push @{ $self->{fields} }, [lc $key, $value // ''];
    }

    my $code = $self->{code} // 0;

    if ($head || $code == 304 || $code == 204 || $code == 101) {
        return ($self, $body);
    }

    my $length = $self->header('Content-Length');
    my $left = '';

    if (lc($self->header('Transfer-Encoding') // '') eq 'chunked') {
        ($body, $left) = dechunk($name, $body);

    } elsif (defined $length && $length =~ /^\d+$/) {
        if (length $body < $length) {
            warn "$name - a body of $length bytes ended after "
                 . length($body) . "\n";

        } else {
            $left = substr $body, $length, length $body, '';
        }
    }

    $self->{content} = $body;
    return ($self, $left);
}


sub dechunk {
    my ($name, $text) = @_;
    my $body = '';

    while ($text =~ s/\A([0-9A-Fa-f]+)[^\r\n]*\r\n//) {
        my $size = hex $1;

        if ($size == 0) {
            # Trailers, if any, up to the empty line.
            last if $text !~ s/\A(?:[^\r\n]+\r\n)*\r\n//;
            return ($body, $text);
        }

        last if length $text < $size + 2;

        $body .= substr $text, 0, $size, '';
        last if $text !~ s/\A\r\n//;
    }

    fail("$name - a chunked body is as it should be");
    diag("after \"$body\": \"$text\"");
    return ($body, '');
}


# What a check expects for request number $i of the block.

sub expected {
    my ($name, $value, $i, $many) = @_;

    if (ref $value eq 'ARRAY') {
        return $value->[$i];
    }

    bail_out("$name - many requests need lists of what is expected")
        if $many;
    return $value;
}


sub expand_ports {
    my ($text) = @_;

    if (defined $text && !ref $text) {
        $text =~ s/\$ServerPort\b/$ServerPort/g;
        $text =~ s/\$ServerPortForClient\b/$ServerPortForClient/g;
    }

    return $text;
}


sub check_code {
    my ($block, $res, $i, $many) = @_;
    my $name = $block->name;
    my $code = $res->{code} // '';

    if (defined $block->error_code_like) {
        my $pattern = expected($name, $block->error_code_like, $i, $many);
        return like($code, qr/$pattern/sm, "$name - code");
    }

    my $want = $block->error_code;
    $want = defined $want ? expected($name, $want, $i, $many) : 200;

    is($code, $want, "$name - code")
        or diag(shown('the response', $res->{raw_headers}
                                      . "\n" . $res->{content}));
}


sub check_headers {
    my ($block, $res, $i, $many) = @_;
    my $name = $block->name;
    my $raw = $res->{raw_headers};

    if (defined(my $like = $block->raw_response_headers_like)) {
        $like = expected($name, $like, $i, $many);
        like($raw, qr/$like/s, "$name - the raw header section matches");
    }

    if (defined(my $unlike = $block->raw_response_headers_unlike)) {
        $unlike = expected($name, $unlike, $i, $many);
        unlike($raw, qr/$unlike/s,
               "$name - the raw header section does not match");
    }

    my $exact = $block->response_headers;
    my $want = $exact // $block->response_headers_like;

    return if !defined $want;

    $want = parse_headers(expected($name, $want, $i, $many));

    for my $key (sort keys %$want) {
        my $value = $want->{$key};
        my $got = $res->header($key) // '';

        if (!defined $exact) {
            like($got, qr/^$value$/, "$name - $key matches");

        } elsif (defined $value) {
            is($got, expand_ports($value), "$name - $key");

        } else {
            unlike($raw, qr/^\s*\Q$key\E\s*:/ms,
                   "$name - no $key");
        }
    }
}


sub filter_body {
    my ($block, $res, $i) = @_;
    my $filters = $block->response_body_filters;

    return if !defined $filters;

    $filters = ref $filters eq 'CODE' ? [$filters]
             : ref $filters ? $filters : [split ' ', $filters];
    $filters = $filters->[$i] if ref $filters->[0] eq 'ARRAY';

    my %known = (
        md5_hex  => \&Digest::MD5::md5_hex,
        sha1_hex => \&Digest::SHA::sha1_hex,
        uc       => sub { uc $_[0] },
        lc       => sub { lc $_[0] },
        ucfirst  => sub { ucfirst $_[0] },
        lcfirst  => sub { lcfirst $_[0] },
        length   => sub { length $_[0] },
    );

    for my $filter (@$filters) {
        my $code = ref $filter ? $filter : $known{$filter}
            // bail_out($block->name . " - unknown filter $filter");
        $res->{content} = $code->($res->{content});
    }
}


sub check_body {
    my ($block, $res, $i, $repeated, $many) = @_;
    my $name = $block->name;
    my $got = $res->{content};
    my $where = "(run $repeated, request $i)";

    if (defined $block->response_body) {
        my $want = expected($name, $block->response_body, $i, $many);

        if (ref $want) {
            like($got, $want, "$name - body matches $where");

        } else {
            $want = expand_env_in_text(expand_ports($want), $name,
                                       $Test::Nginx::Util::RandPorts);
            is($got, $want, "$name - body $where");
        }

    } elsif (defined(my $like = $block->response_body_like)) {
        $like = expand_ports(expected($name, $like, $i, $many));
        like($got, qr/$like/s, "$name - body matches $where");

    } elsif (defined(my $unlike = $block->response_body_unlike)) {
        $unlike = expand_ports(expected($name, $unlike, $i, $many));
        unlike($got, qr/$unlike/s, "$name - body does not match $where");
    }

    $_->($block, $got, $i, $repeated, 0) for @ResponseBodyChecks;
}


# --- logs

# A text is a pattern per line, taken literally.

sub patterns {
    my ($value) = @_;

    return () if !defined $value;
    return grep { defined } @$value if ref $value eq 'ARRAY';
    return $value if ref $value;

    chomp $value;
    return split /\n+/, $value;
}


sub matching {
    my ($pattern, $lines) = @_;

    return grep { ref $pattern && /$pattern/ || /\Q$pattern\E/ } @$lines;
}


sub shown {
    my ($what, $text) = @_;

    $text =~ s/\s+\z//;
    $text =~ s/^/    /mg;
    return $text eq '' ? "$what was empty" : "$what was:\n$text";
}


# Debug lines would hide the few which matter.

sub shown_log {
    my ($log, $lines) = @_;
    my @plain = grep { !/ \[debug\] / } @$lines;

    splice @plain, 0, @plain - 40 if @plain > 40;
    return shown("$log, but its debug lines,", join '', @plain);
}


sub check_log {
    my ($block, $section, $log, $lines, $repeated) = @_;
    my $name = $block->name;
    my $where = defined $repeated ? " (run $repeated)" : '';

    for my $pattern (patterns($block->$section)) {
        ok(scalar(matching($pattern, $lines)),
           "$name - $log has \"$pattern\"$where")
            or diag(shown_log($log, $lines));
    }

    my $no = "no_$section";

    for my $pattern (patterns($block->$no)) {
        my @found = matching($pattern, $lines);

        ok(!@found, "$name - $log does not have \"$pattern\"$where")
            or diag(shown('what matched', join '', @found));
    }
}


sub check_grep {
    my ($block, $lines, $repeated) = @_;
    my $name = $block->name;
    my $grep = $block->grep_error_log;
    my $want = $block->grep_error_log_out;

    $grep = $grep->[$repeated] if ref $grep eq 'ARRAY';

    if (!defined $grep) {
        bail_out("$name - grep_error_log_out without grep_error_log")
            if defined $want;
        return;
    }

    bail_out("$name - grep_error_log without grep_error_log_out")
        if !defined $want;

    $want = $want->[$repeated] if ref $want eq 'ARRAY';

    if (!ref $want) {
        $want = expand_env_in_text($want, $name,
                                   $Test::Nginx::Util::RandPorts);
    }

    my $pattern = ref $grep ? $grep : qr/\Q$grep\E/;
    my $got = join '', map { "$_\n" } grep { !/\n/ }
              map { /$pattern/ ? substr($_, $-[0], $+[0] - $-[0]) : () }
              @$lines;

    is_str($got, $want, "$name - what error.log has (run $repeated)");
}


sub check_error_log {
    my ($block, $res, $dry_run, $repeated, $many) = @_;
    my $name = $block->name;
    my $lines = error_log_data() // [];

    check_grep($block, $lines, $repeated);
    check_log($block, 'error_log', 'error.log', $lines, $repeated);

    my @known = (patterns($block->error_log), patterns($block->no_error_log));

    for my $level (qw(alert crit emerg)) {
        next if grep { /\[\Q$level\E/ } map { "$_" =~ s/\\//gr } @known;
        warn "$name - $_" for matching("[$level]", $lines);
    }

    for my $line (grep { /\bAssertion .*?failed\b/ } @$lines) {
        fail("$name - $line");
    }
}


sub check_shutdown_error_log {
    my ($block) = @_;

    return if !defined $block->shutdown_error_log
              && !defined $block->no_shutdown_error_log;

    my $lines = error_log_data() // [];

    check_log($block, 'shutdown_error_log', 'error.log', $lines);
}


sub check_access_log {
    my ($block, $repeated) = @_;

    return if !defined $block->access_log && !defined $block->no_access_log;

    my $lines = Test::Nginx::Util::access_log_data() // [];
    check_log($block, 'access_log', 'access.log', $lines, $repeated);
}


# --- one run of a block

sub run_test_helper {
    my ($block, $dry_run, $repeated) = @_;
    my $name = $block->name;
    my $timeout = parse_time($block->timeout) // timeout();
    my $wait = $block->wait;
    my $ignore = defined $block->ignore_response;

    my @requests = requests_of($block);
    my $pipelined = $block->pipelined_requests;
    my $count = $pipelined ? @$pipelined : @requests;
    my $many = $pipelined || @requests > 1;
    my $left;

    for my $i (0 .. $count - 1) {
        my $request = $requests[$pipelined ? 0 : $i];
        my $head = join('', map { $_->{value} } @$request)
                   =~ /^\s*HEAD\s/;

        if (!defined $left || !$pipelined) {
            $left = exchange($block, $request, $timeout);
        }

        if (!$ignore) {
            my $res;

            ($res, $left) = parse_response($name, $left, $head);

            check_code($block, $res, $i, $many);
            check_headers($block, $res, $i, $many);
            filter_body($block, $res, $i);
            check_body($block, $res, $i, $repeated, $many);

            warn "$name - more came after the response: ",
                 "\"$left\"\n" if $left ne '' && !$pipelined;
        }

        sleep $wait if $wait;

        check_error_log($block, undef, 0, $repeated, $many);
        check_access_log($block, $repeated) if !$ignore;
    }
}


package Test::Nginx::Socket::Response;

# Fields of one name are one value, joined as RFC 9110, 5.3 has it.

sub header {
    my ($self, $name) = @_;
    my @values = map { $_->[1] } grep { $_->[0] eq lc $name }
                 @{ $self->{fields} };

    return @values ? join(', ', @values) : undef;
}

1;
