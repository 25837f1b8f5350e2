# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# More look-ups than may wait for Redis: what is too much is refused, and the
# worker's own commands, which keep its lease, leave all the same.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Workers;
use IO::Socket::INET;
use Test::More;

# The commands that may wait, and those of them that are the worker's own.
my $queue = 16384;
my $own = 256;

my $streams = 2500;
my $connections = 7;
my $all = $streams * $connections;

my @digits = (0 .. 9, 'A' .. 'Z', 'a' .. 'z');
my $plain = free_port();
my ($one, $two) = map { record_of($_) } 'one', 'two';

# The replies to look-ups of all other keys are held back.
fake_redis(keys => ['one'], rules => [
    { match => qr/^HMGET (?!\Q$one\E |\Q$two\E )/, do => 'hold' },
]);

my $nginx = Agntkey::Nginx->new(cached(
    redis => "redis://127.0.0.1:$ENV{TEST_NGINX_FAKE_PORT}",
    cache => 'entries=100 lease=1s',
    http => 'agntkey_redis_timeout 60s; keepalive_timeout 300s;'
            . "http2_max_concurrent_streams $streams;",
    server => "listen 127.0.0.1:$plain;"
              . 'location /q { agntkey on; agntkey_token $arg_k; empty_gif; }',
), listen => 'http2')->start;

# The error log does not say it: a refusal is one of very many.
sub refused {
    open my $in, '<', "$nginx->{root}/logs/access.log" or return 0;
    return scalar grep { / 503 / } <$in>;
}

ok(hit('one', port => $plain), 'a hit before');


# --- HTTP/2 by hand: GET on each of so many streams (RFC 9113, 7541)

sub frame {
    my ($type, $flags, $stream, $payload) = @_;
    return substr(pack('N', length $payload), 1)
           . pack('CCNa*', $type, $flags, $stream, $payload);
}

my @socks;

for my $n (1 .. $connections) {
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', Proto => 'tcp',
                                     PeerPort => $nginx->{port})
        or die "cannot connect to nginx: $!\n";
    my $text = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, '')
               . frame(8, 0, 0, pack 'N', 2 ** 30);

    for my $stream (1 .. $streams) {
        my $id = join '', map { $digits[rand 62] } 1 .. 12;
        my $key = key_for('flood', id => $id);
        my $path = "/q?k=$key";

        # Nobody's, and too many to look for in the logs.
        delete $Agntkey::Key::made{$key};

        # GET, http, and a path and a host that are not indexed
        $text .= frame(1, 5, 2 * $stream - 1,
                       pack 'CC Ca1a* CCa*', 0x82, 0x86, 0x04,
                       chr length $path, $path, 0x01, 1, 'x');
    }

    print {$sock} $text;
    $sock->flush;
    $sock->blocking(0);
    push @socks, $sock;
}


# --- the queue is full

my $want = $all - ($queue - $own);

ok(wait_until(30, sub {
    sysread $_, my $answers, 1_000_000 for @socks;
    refused() >= $want;
}), 'look-ups are refused') or diag(refused(), " of $want");

# What was refused is known before Redis has read all that was not.
sub asked_for {
    return scalar(() = fake_commands(qr/^HMGET/));
}

# The worker's own commands wait among them.
ok(wait_until(10, sub { asked_for() > $queue - 2 * $own }),
   'as many are asked as may be') or diag(asked_for());
cmp_ok(asked_for(), '<=', $queue - $own + 10, 'and no more');

# The lease goes on, and with it the key that is remembered.
my $leases = () = fake_commands(qr/^EVAL/);

for my $n (1 .. 4) {
    ok(fake_wait(qr/^EVAL/, $leases + 4 * $n, 10), "lease $n is renewed");
    is(asked('one', port => $plain), '200 HIT', "lease $n: a hit");
}

ok(!not_cached_lines($nginx), 'nothing was said of an end of it');


# --- and empty again

fake_release();

ok(wait_until(30, sub { asked('two', port => $plain) eq '401 unknown MISS' }),
   'when Redis answers, it is asked again');
is(scalar(grep { said($_) eq '200 HIT' }
          map { asked_start('one', port => $plain)->response } 1 .. 10), 10,
   'and the key is a hit all the time');

close $_ for @socks;
ok(defined $nginx->quit, 'quit');
logs_clean();
done_testing();
