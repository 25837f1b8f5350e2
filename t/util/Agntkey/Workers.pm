# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Asking each of several workers, and what a cache makes of an answer.
#
#     my $nginx = Agntkey::Nginx->new(workers => 4, cached())->start;
#     my %worker = worker_clients($nginx);
#
#     ok(hit_everywhere(\%worker, 'one'));
#     is(said(ask_worker($worker{$pid}, 'one')), '200 HIT');

package Agntkey::Workers;

use strict;
use warnings;

use Agntkey;
use Exporter 'import';
use IO::Socket::INET;
use JSON::PP ();

our @EXPORT = qw(
    $FAKE_BARRIER api api_start ask_worker asked asked_start cached fake_cmd
    fake_revoke hit hit_everywhere not_cached_lines record_of revoke said
    worker_clients workspace_of
);

my $utf8 = JSON::PP->new->utf8->canonical;

# By source port: every worker gets its share of connections.
my $listen = 'reuseport';

my $locations = <<'_EOC_';
add_header X-Cache "$agntkey_cache" always;
add_header X-Pid $pid always;
keepalive_requests 1000000;
location /t { agntkey on; empty_gif; }
location /open { empty_gif; }
location /status { stub_status; }
location /agntkey/ {
    agntkey_admin on;
    agntkey_admin_token_file off;
}
_EOC_


# cached(redis => url, cache => 'entries=10 lease=2s', http => text,
#        server => text): arguments for Agntkey::Nginx->new().

sub cached {
    my (%opt) = @_;
    my $redis = $opt{redis}
                // "redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT}";
    my $cache = defined $opt{cache} ? "agntkey_cache $opt{cache};" : '';

    return (
        listen => $listen,
        http => "agntkey_redis $redis; $cache agntkey_last_used off;"
                . ($opt{http} // ''),
        server => $locations . ($opt{server} // ''),
    );
}


# --- records

# The name of a key's record, and of a workspace's.

sub record_of {
    my ($label, %opt) = @_;
    my ($tag, $random) = unpack 'a4 a8', key_id(key_for($label, %opt));

    return "agntkey:key:{$tag}$random";
}

sub workspace_of {
    my ($workspace) = @_;
    return 'agntkey:workspace:{' . workspace_tag($workspace)
           . "}$workspace";
}


# --- requests

# "200 HIT", "401 revoked MISS", "503 store_unavailable".

sub said {
    my ($res) = @_;
    my ($reason) = $res->{body} =~ /"code":\s*"(\w+)"/;
    my @said = ($res->{timeout} ? 'no answer' : $res->{code}, $reason,
                $res->{headers}{'x-cache'});

    return join ' ', grep { defined && $_ ne '' } @said;
}

sub asked { return said(asked_start(@_)->response) }

# asked('one', workspace => 'acme', secret =>, and options of http_start())

sub asked_start {
    my ($label, %opt) = @_;
    my %key = map { exists $opt{$_} ? ($_ => delete $opt{$_}) : () }
              qw(workspace id secret prefix);

    return http_start(delete $opt{line} // 'GET /t', %opt,
                      headers => bearer(key_for($label, %key)));
}


# True once the key is a hit; a worker is trusted a moment after its start.

sub hit {
    my ($label, %opt) = @_;
    return wait_until(20, sub { asked($label, %opt) eq '200 HIT' });
}


# A connection to each worker, by pid.

sub worker_clients {
    my ($nginx) = @_;
    my %worker;

    wait_until(20, sub {
        my $client = http_start('GET /open', port => $nginx->{port},
                                headers => 'Connection: keep-alive');
        my $pid = $client->response->{headers}{'x-pid'} // return 0;

        $worker{$pid} //= $client;
        return keys %worker == $nginx->{workers};
    }) or die "not all workers answer\n";

    return %worker;
}


# ask_worker($client, 'one', line => 'GET /t', timeout => 5)

sub ask_worker {
    my ($client, $label, %opt) = @_;

    $client->write(($opt{line} // 'GET /t') . " HTTP/1.1\r\n"
                   . "Host: localhost\r\n" . bearer(key_for($label, %opt))
                   . "\r\n\r\n");
    return $opt{start} ? $client : $client->response($opt{timeout});
}


sub hit_everywhere {
    my ($worker, @labels) = @_;
    my $hits = 0;

    for my $client (values %$worker) {
        for my $label (@labels) {
            $hits++ if wait_until(20, sub {
                said(ask_worker($client, $label)) eq '200 HIT';
            });
        }
    }

    return $hits == keys(%$worker) * @labels;
}


# --- the admin API

# api_start('PUT workspaces/acme', { ... }, client => $client): the client.

sub api_start {
    my ($call, $body, %opt) = @_;
    my ($method, $path) = split / /, $call, 2;
    my $client = delete $opt{client};
    my @headers = defined $body ? 'Content-Type: application/json' : ();

    $body = $utf8->encode($body) if ref $body;

    return http_start("$method /agntkey/$path", headers => \@headers,
                      body => $body, %opt)
        if !$client;

    $body //= '';
    $client->write(join "\r\n", "$method /agntkey/$path HTTP/1.1",
                   'Host: localhost', @headers,
                   'Content-Length: ' . length $body, '', $body);
    return $client;
}


# The response, with what it says as "json".

sub api {
    my ($call, $body, %opt) = @_;
    my $seconds = delete $opt{timeout};
    my $res = api_start($call, $body, %opt)->response($seconds // 15);

    $res->{json} = eval { $utf8->decode($res->{body}) } // {};
    return $res;
}


sub revoke {
    my ($label, %opt) = @_;
    my $id = key_id(key_for($label, map { $_ => $opt{$_} }
                                    grep { exists $opt{$_} } 'workspace'));

    delete $opt{workspace};
    return api("POST keys/$id/revoke", undef, %opt);
}


sub not_cached_lines {
    my ($nginx) = @_;
    return $nginx->lines(qr/\[warn\] .*agntkey: keys are not cached: /);
}


# --- the fake Redis

# One command, from outside: as another program would write to it.

sub fake_cmd {
    my (@args) = @_;
    my $sock = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', Proto => 'tcp',
        PeerPort => $ENV{TEST_NGINX_FAKE_PORT}) // die "fake redis: $!\n";

    print {$sock} '*' . @args . "\r\n",
                  map { '$' . length($_) . "\r\n$_\r\n" } @args;
    return scalar <$sock>;
}


# Of the three steps of a revocation the fake knows the last two.  A rule for the
# first, in which it is written, and what matches the last, the question who has
# heard.

our $FAKE_BARRIER = qr/^EVAL .*'ZRANGE',KEYS\[1\].*PUBLISH/s;

sub fake_revoke {
    return {
        match => qr/^EVAL .*'HDEL',KEYS\[1\],'active'/s,
        do => { instead => "*9\r\n"
                . join '', map { defined ? '$' . length($_) . "\r\n$_\r\n"
                                         : "\$-1\r\n" }
                           '0' x 64, undef, 'acme', 'one', '',
                           '1700000000000', undef, '1700000000001', undef },
    };
}

1;
