# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# A private redis-server for a suite, and a RESP2 client to talk to it.

package Agntkey::Redis;

use strict;
use warnings;

use File::Path qw(make_path);
use File::Temp ();
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Time::HiRes qw(sleep time);

# The longest path of a unix socket on Linux, less the final zero.
use constant MAX_SOCK_PATH => 107;

my @servers;


# new(dir => path, port => number, tls_port => number, args => [...],
#     may_load => true if it counts as started while it loads): nothing runs
# yet.

sub new {
    my ($class, %opt) = @_;
    my $self = bless { owner => $$, args => [], %opt }, $class;

    make_path($self->{dir});
    $self->{sock} = "$self->{dir}/redis.sock";

    if (length $self->{sock} > MAX_SOCK_PATH) {
        $self->{tmp} = File::Temp->newdir;
        $self->{sock} = "$self->{tmp}/redis.sock";
    }

    push @servers, $self;
    return $self;
}


sub port { return $_[0]{port} }
sub sock { return $_[0]{sock} }
sub pid { return $_[0]{pid} }
sub dir { return $_[0]{dir} }


# The version of the redis-server in PATH, as a number that compares: 6.002
# for 6.2.16, 7.004 for 7.4.1, 8 for Valkey 8.0.1.

my $version;

sub version {
    return $version //= do {
        my $said = `redis-server --version` // '';
        my ($major, $minor) = $said =~ /\bv=(\d+)\.(\d+)/
            or die "redis-server --version: $said\n";
        $major + $minor / 1000;
    };
}


# Returns once the server answers.

sub start {
    my ($self) = @_;

    return $self if $self->{pid};

    my $pid = fork // die "fork: $!\n";

    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{dir}/redis.out";
        open STDERR, '>&', \*STDOUT;

        { exec 'redis-server', $self->arguments }
        POSIX::_exit(127);
    }

    $self->{pid} = $pid;

    my $end = time + 10;

    until ($self->answers) {
        if (waitpid($pid, POSIX::WNOHANG()) != 0 || time > $end) {
            kill 'KILL', $pid;
            undef $self->{pid};
            die "redis-server does not start:\n", $self->log;
        }

        sleep 0.01;
    }

    return $self;
}


sub arguments {
    my ($self) = @_;
    my @args = (
        '--port', $self->{port}, '--bind', '127.0.0.1',
        '--unixsocket', $self->{sock}, '--dir', $self->{dir},
        '--logfile', "$self->{dir}/redis.log", '--daemonize', 'no',
        '--save', '', '--appendonly', 'no',
    );

    # Before, everybody might.
    push @args, '--enable-debug-command', 'yes',
                '--enable-protected-configs', 'yes' if version() >= 7;

    if ($self->{tls_port}) {
        my $tls = $self->certificates;

        push @args, '--tls-port', $self->{tls_port},
                    '--tls-cert-file', $tls->{cert},
                    '--tls-key-file', $tls->{key},
                    '--tls-ca-cert-file', $tls->{ca},
                    '--tls-auth-clients', $self->{tls_auth} // 'optional';
    }

    return (@args, @{ $self->{args} });
}


# An authority, and certificates for the server (localhost, 127.0.0.1) and
# for a client, signed by it.

sub certificates {
    my ($self) = @_;
    my $dir = $self->{dir};

    return $self->{tls} if $self->{tls};

    my $openssl = sub {
        my $out = qx{openssl $_[0] 2>&1};
        die "openssl $_[0]:\n$out" if $? != 0;
    };

    my $new = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';

    $openssl->("req -x509 $new -days 2 -subj '/CN=agntkey test CA'"
               . " -keyout '$dir/ca.key' -out '$dir/ca.crt'");

    for my $who (qw(server client)) {
        open my $out, '>', "$dir/$who.ext" or die "$dir/$who.ext: $!\n";
        print $out "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
        close $out;

        $openssl->("req $new -subj /CN=$who -keyout '$dir/$who.key'"
                   . " -out '$dir/$who.csr'");
        $openssl->("x509 -req -in '$dir/$who.csr' -CA '$dir/ca.crt'"
                   . " -CAkey '$dir/ca.key' -CAcreateserial -days 2"
                   . " -extfile '$dir/$who.ext' -out '$dir/$who.crt'");
    }

    return $self->{tls} = {
        ca          => "$dir/ca.crt",
        cert        => "$dir/server.crt",
        key         => "$dir/server.key",
        client_cert => "$dir/client.crt",
        client_key  => "$dir/client.key",
    };
}


sub log {
    my ($self) = @_;
    my $text = '';

    for my $file (qw(redis.out redis.log)) {
        open my $in, '<', "$self->{dir}/$file" or next;
        local $/;
        $text .= <$in> // '';
    }

    return $text;
}


sub answers {
    my ($self) = @_;
    my $pong = eval { $self->cmd('PING') };

    # With a password it is there all the same.  While it loads it is not,
    # unless that is what is wanted: other commands would get an error.
    return 1 if defined $pong || $@ =~ /^NOAUTH/;
    return $self->{may_load} && $@ =~ /^LOADING/;
}


# Ends the server with a signal, KILL unless another is named: a suite's
# Redis has nothing to save.

sub stop {
    my ($self, $signal) = @_;
    my $pid = delete $self->{pid};

    $self->disconnect;
    return if !$pid || $$ != $self->{owner};

    local ($?, $!);
    kill 'CONT', $pid;
    kill $signal // 'KILL', $pid;
    waitpid $pid, 0;
}


sub restart { my ($self, @how) = @_; $self->stop(@how); $self->start }
sub pause { kill 'STOP', $_[0]{pid}; $_[0]->disconnect }
sub resume { kill 'CONT', $_[0]{pid} }

END { $_->stop for @servers }


# --- the client

sub disconnect { delete @{ $_[0] }{qw(client client_pid buf)} }


# The connection is kept, but never shared with a process that forked.

sub client {
    my ($self) = @_;

    $self->disconnect if ($self->{client_pid} // $$) != $$;

    return $self->{client} //= do {
        $self->{client_pid} = $$;
        $self->{buf} = '';
        IO::Socket::UNIX->new(Peer => $self->{sock})
            // die "cannot connect to redis: $!\n";
    };
}


# cmd('HGET', 'key', 'field'): the answer, as a scalar or a reference to an
# array; a nil is undef.  An error reply dies with its text.

sub cmd {
    my ($self, @args) = @_;
    my @answers = $self->pipeline([@args]);

    die $answers[0]{error}, "\n" if ref $answers[0] eq 'HASH';
    return $answers[0];
}


# pipeline([...], [...]): all answers; an error is { error => text }.

sub pipeline {
    my ($self, @commands) = @_;
    my $text = '';

    for my $command (@commands) {
        $text .= '*' . @$command . "\r\n";
        $text .= '$' . length($_) . "\r\n$_\r\n" for @$command;
    }

    my @answers;
    my $done = eval {
        local $SIG{PIPE} = 'IGNORE';
        my $sock = $self->client;

        syswrite($sock, $text) // die "redis: $!\n";
        push @answers, $self->read_answer for @commands;
        1;
    };

    if (!$done) {
        # The answers that are still to come would be taken for others'.
        $self->disconnect;
        die $@;
    }

    return @answers;
}


sub fill {
    my ($self) = @_;
    my $sock = $self->{client};

    vec(my $set = '', fileno $sock, 1) = 1;
    select($set, undef, undef, 10) or die "redis does not answer\n";

    sysread($sock, $self->{buf}, 65536, length $self->{buf})
        or die "redis closed the connection\n";
}


sub read_answer {
    my ($self) = @_;

    $self->fill until $self->{buf} =~ s/\A(.)([^\r\n]*)\r\n//;

    my ($type, $text) = ($1, $2);

    return { error => $text } if $type eq '-';
    return $text if $type eq '+' || $type eq ':';
    return undef if $text < 0;

    if ($type eq '$') {
        $self->fill until length $self->{buf} >= $text + 2;

        my $value = substr $self->{buf}, 0, $text + 2, '';
        return substr $value, 0, $text;
    }

    die "redis: unknown type \"$type\"\n" if $type ne '*';

    return [map { $self->read_answer } 1 .. $text];
}

1;
