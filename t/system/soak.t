# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Days of a busy server in short: users and administrators on HTTP/1.1 and
# HTTP/2, clients that leave, reloads, and a Redis that is killed and started
# again.  In the end nothing is left over, and everybody agrees on what was
# done.
#
# SOAK_SECONDS says how long (12); "make soak" takes minutes, or what it is
# told.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Soak;
use Agntkey::Workers;
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{SOAK_SECONDS} || 12;
my $h2 = grep { -x "$_/h2load" } split /:/, $ENV{PATH};
my $dir = test_dir() . '/soak';

mkdir $dir or die "$dir: $!\n";

# What was acknowledged has been written to the file: only the process dies.
# What was acknowledged is in the file when the process is killed: it is written
# before the reply.  With "everysec" the write waits for a slow fsync, and the
# reply does not (redis.io/docs/latest/operate/oss_and_stack/management/
# persistence).
redis_start(args => ['--appendonly', 'yes', '--appendfsync', 'no']);

seed_key("good-$_") for 0 .. 19;
seed_key('revoked', active => undef, revoked_at => 1);

my $streams = free_port();
my ($listen, $http2) = Agntkey::Nginx::version() >= 1.025001
                       ? ('', 'http2 on;') : ('http2', '');

my $nginx = Agntkey::Nginx->new(
    workers => 2, connections => 1024, listen => 'reuseport',
    log_level => 'notice',
    http => "agntkey_redis redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT};"
            . 'agntkey_cache entries=100 lease=1s; access_log off;',
    server => <<"_EOC_",
listen 127.0.0.1:$streams $listen reuseport;
$http2
add_header X-Pid \$pid always;
location /t { agntkey on; empty_gif; }
location /open { empty_gif; }
location /status { stub_status; }
location /agntkey/ { agntkey_admin on; agntkey_admin_token_file off; }
_EOC_
)->start;

my @kinds = (('users') x 4, ('admin') x 2, $h2 ? 'streams' : ());

for my $n (0 .. $#kinds) {
    Agntkey::Soak->new(
        dir => $dir, number => $n + 1, kind => $kinds[$n],
        workspace => "soak-$n",
        port => $kinds[$n] eq 'streams' ? $streams : $ENV{TEST_NGINX_PORT});
}


# --- trouble

my $begun = time;
my $master = $nginx->pid;
my (@masters, %done);

sub until_part { $begun + $seconds * $_[0] }

sub pause {
    my ($longest) = @_;
    sleep 0.2 + rand $longest;
}

while (time < until_part(0.6)) {
    $done{reloads}++ if $nginx->reload(30);
    push @masters, Agntkey::Nginx::rss($master);
    pause($seconds / 15);

    redis_restart();
    $done{restarts}++;
    pause($seconds / 15);
}


# --- no reload any more: what a worker takes can be seen

ok($nginx->reload(30) && $nginx->settled(30), 'a last reload');

my @rounds;

for my $round (1 .. 4) {
    my $end = until_part(0.6 + 0.1 * $round);

    redis_restart() if $round == 2;
    sleep 0.05 while time < $end;

    push @rounds, [map { Agntkey::Nginx::rss($_) } sort { $a <=> $b }
                   $nginx->workers];
}

my @results = Agntkey::Soak::finish($dir);

is(scalar(grep { defined } @results), scalar @kinds,
   'every client has come to an end');


# --- what was answered

my %count;

for my $result (grep { defined } @results) {
    $count{$_} += $result->{count}{$_} for keys %{ $result->{count} };
    is_deeply($result->{wrong}, [], "$result->{kind}: nothing wrong");
}

note("$_: $count{$_}") for sort keys %count;
note("$done{reloads} reloads, $done{restarts} restarts of Redis");

# Whoever is still connected when a worker leaves may have to ask again.
my %may = (
    good => qr/^(?:200|503|)$/, fresh => qr/^(?:200|503|)$/,
    unknown => qr/^(?:401|503|)$/, revoked => qr/^(?:401|503|)$/,
    gone => qr/^(?:401|503|)$/, bad => qr/^(?:401|)$/,
    'good-h2' => qr/^[25]xx$/, 'unknown-h2' => qr/^[45]xx$/,
    'bad-h2' => qr/^4xx$/,
    POST => qr/^(?:201|409|503|)$/, 'POST rotate' => qr/^(?:201|503|)$/,
    'POST revoke' => qr/^(?:200|503|)$/, GET => qr/^(?:200|503|)$/,
);

my @wrong = grep {
    my ($who, $code) = /^(.*) (\S*)$/;
    !$may{$who} || $code !~ $may{$who};
} sort keys %count;

ok(!@wrong, 'no answer is wrong')
    or diag(map { "$_: $count{$_}\n" } @wrong);

for my $what ('good 200', 'unknown 401', 'revoked 401', 'bad 401',
              'fresh 200', 'gone 401', 'POST 201', 'POST rotate 201',
              'POST revoke 200', 'GET 200',
              $h2 ? ('good-h2 2xx', 'unknown-h2 4xx') : ())
{
    cmp_ok($count{$what} // 0, '>', 0, "there were: $what");
}

cmp_ok($done{reloads} // 0, '>', 1, 'there were reloads');
cmp_ok($done{restarts} // 0, '>', 1, 'there were restarts of Redis');


# --- what Redis has

redis()->disconnect;

for my $result (grep { $_ && $_->{kind} eq 'admin' } @results) {
    my $ws = $result->{workspace};
    my $tag = workspace_tag($ws);
    my $all = redis_cmd('ZRANGE', "agntkey:index:{$tag}$ws", 0, -1);
    my %is = map { $_ => 1 } @$all;
    my %revoked = map { $_ => 1 } @{ $result->{revoked} };
    my $most = $result->{created} + $result->{unsure};

    ok(@$all >= $result->{created} && @$all <= $most,
       "$ws: as many keys as were made")
        or diag(scalar @$all, ' and not ', "$result->{created} to $most");

    my @lost = grep { !$is{$_} } @{ $result->{known} };
    ok(!@lost, "$ws: no key is lost") or diag("@lost");

    my @states = redis()->pipeline(map {
        ['HGET', sprintf('agntkey:key:{%s}%s', unpack 'a4 a8', $_), 'active']
    } @{ $result->{known} });

    my @differ = grep {
        my $id = $result->{known}[$_];
        ($states[$_] // '') ne ($revoked{$id} ? '' : '1');
    } 0 .. $#states;

    ok(!@differ, "$ws: revoked are those that were revoked")
        or diag(map { "$result->{known}[$_]\n" } @differ);

    # The stream of what was done is cut at some length.
    my $audit = redis_cmd('XRANGE', "agntkey:audit:{$tag}$ws", '-', '+');
    my (%entries, %told);

    for my $entry (@$audit) {
        my %field = @{ $entry->[1] };
        $entries{ $field{action} }++;
        $told{ $field{id} // '' } = 1 if $field{action} eq 'revoked';
    }

    next if @$audit > 9000;

    is(($entries{created} // 0) + ($entries{rotated} // 0), scalar @$all,
       "$ws: each of them is in the audit stream");
    is(join(' ', sort keys %told), join(' ', sort keys %revoked),
       "$ws: and each revocation");
}


# --- and nothing is left

ok($nginx->settled(30), 'no old worker is left');
ok(wait_until(20, sub { active_connections() == 0 }),
   'no connection is left') or diag(active_connections());
like(http('GET /status')->{body}, qr/Waiting: 0\b/, 'nobody waits');

my ($grown) = sort { $b <=> $a } map { $rounds[-1][$_] - $rounds[1][$_] }
                                0 .. $#{ $rounds[1] };

SKIP: {
    skip 'their size does not tell', 2 if !Agntkey::Nginx::size_tells($master);

    cmp_ok($grown, '<', 1024, 'the workers do not grow (KB)')
        or diag(map { "@$_\n" } @rounds);
    cmp_ok($masters[-1] - $masters[0], '<', 1024,
           'nor does the master, with each reload (KB)') or diag("@masters");
}

# A new worker that has done the same shows how many files there must be; but
# for unix sockets, which lead to workers that there were when it started.

sub files {
    my ($pid) = @_;

    open my $in, '<', '/proc/net/unix' or die "/proc/net/unix: $!\n";
    my %unix = map { ((split)[6] => 1) } <$in>;

    return scalar grep {
        my ($inode) = (readlink($_) // '') =~ /^socket:\[(\d+)\]/;
        !defined $inode || !$unix{$inode};
    } glob "/proc/$pid/fd/*";
}

sub files_of_workers {
    my %worker = worker_clients($nginx);
    my @files;

    for my $client (values %worker) {
        ask_worker($client, 'good-0');
        ask_worker($client, 'good-0', line => 'GET /agntkey/workspaces');
    }

    $_->leave('fin') for values %worker;
    wait_until(10, sub { active_connections() == 0 });

    return (sort { $a <=> $b } map { files($_) } $nginx->workers)[-1];
}

my $old = files_of_workers();

ok($nginx->reload(30) && $nginx->settled(30), 'new workers');

my $new;
ok(wait_until(20, sub { ($new = files_of_workers()) >= $old }),
   'the workers have no more files open') or diag("$old, and new ones $new");

# What a worker could not take out while Redis was away, a revocation does.
sub registered {
    my $members = redis_cmd('ZRANGE', 'agntkey:workers', 0, -1);
    return join ' ', sort map { (split m{/})[1] } @$members;
}

ok(wait_until(20, sub {
    revoke('revoked');
    registered() eq join ' ', sort $nginx->workers;
}), 'the registry has the living workers, and no other')
    or diag(registered(), ', and there are ', join ' ', $nginx->workers);

ok(defined $nginx->quit, 'quit');
is(scalar(my @open = $nginx->lines(qr/open socket/)), 0, 'no open socket');
is(registered(), '', 'and then the registry is empty');

logs_clean();
done_testing();
