# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The promise, against chance: many clients, two nginx with several workers,
# keys that are created and revoked, workspaces that are switched off and on,
# and all the while workers are stopped and killed and connections to Redis
# are cut and stalled.  In the end a replica takes over from a primary that one
# nginx goes on to ask.  Everybody logs what he does by one clock, and a checker
# reads the logs.
#
# RANDOM_SECONDS says how long (12), RANDOM_SEED which chances, RANDOM_FAULTS
# which kinds of faults (all of them; see t/util/Agntkey/Random/Faults.pm).  The
# seed gives the same schedule; what the processes make of it is up to the
# system.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Agntkey::Random::Admins;
use Agntkey::Random::Checker;
use Agntkey::Random::Faults;
use Agntkey::Random::Load;
use Agntkey::Random::Split;
use Test::More;
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime);

my $seconds = $ENV{RANDOM_SECONDS} || 12;
my $seed = $ENV{RANDOM_SEED} || 1 + int rand 2 ** 31;

# Many faults outlast the short one; in the long one there is time for more.
my $lease = 1 + $seed % 2;

note("RANDOM_SEED=$seed RANDOM_SECONDS=$seconds");

my $number = 0;
sub next_seed { return ($seed + 7919 * ++$number) % 2 ** 31 }


# --- the checker sees what is wrong

sub found {
    my ($calls, @requests) = @_;
    my $checker = Agntkey::Random::Checker->new(lease => 1, cached => 1);

    $checker->calls(@$calls);
    $checker->requests(@requests);

    my %wrong = $checker->violations;
    return join ', ', map { "$_ $wrong{$_}" } sort keys %wrong;
}

{
    my @create = ('C 100 200 7 acme 201');
    my $good = '3 2 5 0';
    my @revoke = (@create, "V 5000000 5010000 7 200 $good");
    my @lost = (@create, 'V 5000000 5010000 7 503 -',
                "V 6000000 6010000 7 200 $good");
    my @off = (@create, "P 5000000 5010000 acme disabled 200 $good",
               'P 7000000 7010000 acme active 200 -');
    my @unsure = (@create, 'P 5000000 5010000 acme disabled 503 -',
                  'P 7000000 7010000 acme active 0 -',
                  'P 9000000 9010000 acme active 200 -');

    my @cases = (
        ['a good key', \@create, '', 'R 300 400 7 200 HIT 1'],
        ['no answer', \@create, '', 'R 300 400 7 0 - -'],
        ['a request that began before the revocation was answered', \@revoke,
         '', 'R 5010000 9000000 7 200 HIT 1'],
        ['one that began after it', \@revoke, 'revoked 1',
         'R 5010001 5010500 7 200 HIT 1'],
        ['one that began long after it', \@revoke, 'revoked 1',
         'R 95010001 95010500 7 200 MISS 1'],
        ['revoked: 401, 503', \@revoke, '', 'R 5010001 5010500 7 401 - 1',
         'R 5010001 5010500 7 503 - 1'],
        ['401 since the revocation began', \@revoke, '',
         'R 300 5000000 7 401 - 1'],
        ['401 before', \@revoke, 'refused 1', 'R 300 4999999 7 401 - 1'],
        ['a revocation whose answer was 503 promises nothing', \@lost, '',
         'R 5010001 5010500 7 200 HIT 1', 'R 5010001 5010500 7 401 - 1'],
        ['the one that was repeated does', \@lost, 'revoked 1',
         'R 6010001 6010500 7 200 HIT 1'],
        ['401 for a key that nobody revoked', \@create, 'refused 1',
         'R 300 400 7 401 - 1'],
        ['a workspace that is off', \@off, '', 'R 5010001 5010500 7 403 - 1'],
        ['let in while it is off', \@off, 'off 1',
         'R 5010001 6999999 7 200 HIT 1'],
        ['let in: switching on had begun', \@off, '',
         'R 5010001 7000000 7 200 MISS 1'],
        ['let in: switching off was not answered', \@off, '',
         'R 5010000 6000000 7 200 HIT 1'],
        ['let in before and after', \@off, '', 'R 300 400 7 200 HIT 1',
         'R 7010001 7010400 7 200 MISS 1'],
        ['403 before it was off', \@off, 'forbidden 1',
         'R 300 4999999 7 403 - 1'],
        ['403 within a lease after it was on', \@off, '',
         'R 8009999 8010400 7 403 - 1'],
        ['403 later', \@off, 'forbidden 1', 'R 8010001 8010400 7 403 - 1'],
        ['switched on by another while it is switched off', [@off,
         'P 5009000 5020000 acme active 503 -'], '',
         'R 5020001 6999999 7 200 HIT 1'],
        ['switched off after all that overlaps', [@off,
         'P 4990000 4999999 acme active 200 -'], 'off 1',
         'R 5010001 6999999 7 200 HIT 1'],
        ['two switch it off: the first answer counts', [@off,
         "P 5005000 6000000 acme disabled 200 $good"], 'off 1',
         'R 5010001 5999999 7 200 HIT 1'],
        ['403: switched off again while it is switched on', [@off,
         "P 7005000 7020000 acme disabled 503 -"], '',
         'R 9000000 9000400 7 403 - 1'],
        ['401 since Redis came back empty', [@create,
         'E 6000000 7000000 empty -'], '', 'R 6500000 6500400 7 401 - 1'],
        ['401 before it did', [@create, 'E 6000000 7000000 empty -'],
         'refused 1', 'R 5500000 5500400 7 401 - 1'],
        ['let in by a lease, and after it', [@create,
         'E 6000000 7000000 empty -'], 'gone 1',
         'R 8000000 8000400 7 200 HIT 1', 'R 8300000 8300400 7 200 HIT 1'],
        ['a workspace that is made again is active', [@off,
         'E 5500000 6000000 empty -', 'C 6100000 6200000 9 acme 201'], '',
         'R 6300000 6300400 9 200 MISS 1'],
        ['no such key to revoke', [@create, 'V 5000 15000 7 404 -'], 'lost 1'],
        ['since Redis came back empty', [@create, 'E 1000 2000 empty -',
         'V 5000 15000 7 404 -'], ''],
        ['revoked on a primary that is cut off: it may be lost', [@revoke,
         'E 5000000 9000000 split -'], '', 'R 9000001 9000400 7 200 MISS 1'],
        ['revoked again by its replica', [@revoke,
         'E 5000000 9000000 split -', "V 9500000 9600000 7 200 $good"],
         'revoked 1', 'R 9600001 9600400 7 200 MISS 1'],
        ['revoked before that', [@revoke, 'E 6020000 9000000 split -'],
         'revoked 1', 'R 9000001 9000400 7 200 MISS 1'],
        ['created on it: not known, and not found', ['C 5000000 5010000 7 acme'
         . ' 201', 'E 5000000 9000000 split -', 'V 9500000 9600000 7 404 -'],
         '', 'R 9000001 9000400 7 401 - 1'],
        ['created before that', [@create, 'E 5000000 9000000 split -'],
         'refused 1', 'R 9000001 9000400 7 401 - 1'],
        ['switched off on it: as before or not', [@create,
         "P 5000000 5010000 acme disabled 200 $good",
         'E 5000000 9000000 split -'], '', 'R 9000001 9000400 7 200 MISS 1',
         'R 9000001 9000400 7 403 - 1'],
        ['switched off by its replica', [@create, 'E 5000000 9000000 split -',
         "P 9100000 9200000 acme disabled 200 $good"], 'off 1',
         'R 9200001 9200400 7 200 MISS 1'],
        ['403 in a workspace that nobody switched', \@create, 'forbidden 1',
         'R 300 400 7 403 - 1'],
        ['not known whether it is off: 200 and 403', \@unsure, '',
         'R 6000000 6000400 7 200 HIT 1', 'R 6000000 6000400 7 403 - 1',
         'R 8000000 8000400 7 403 - 1', 'R 8000000 8000400 7 200 MISS 1'],
        ['a key that was never created', \@create, '', 'R 300 400 0 401 - 1'],
        ['such a key let in', \@create, 'never 1', 'R 300 400 0 200 MISS 1'],
        ['let in by an old answer', \@create, 'cache 2',
         'R 300 400 7 200 STALE 1', 'R 300 400 7 200 - 1'],
        ['any other answer', \@create, 'answer 2', 'R 300 400 7 500 - 1',
         'R 300 400 7 404 - 1'],
        ['a key that is in no log', \@create, 'log 1',
         'R 300 400 8 200 HIT 1'],
        ['a line cut off', \@create, 'log 1', 'R 300 400 7 20'],
        ['more acknowledged than there are workers',
         [@create, 'V 5000 15000 7 200 3 4 5 0'], 'receipt 1'],
        ['took longer than the call',
         [@create, 'V 5000 15000 7 200 3 3 111 0'], 'receipt 1'],
        ['and a worker was stopped meanwhile',
         [@create, 'V 5000 15000 7 200 3 3 111 0', 'E 1 5001 stop 1'], ''],
        ['a negative time', [@create, 'V 5000 15000 7 200 3 3 -1 0'],
         'receipt 1'],
        ['no receipt', [@create, 'V 5000 15000 7 200 -'], 'receipt 1'],
    );

    for my $case (@cases) {
        my ($title, $calls, $want, @requests) = @$case;

        is(found($calls, @requests), $want, "checker: $title");
    }
}


# --- what there is

my $dir = test_dir() . '/random';
mkdir $dir or die "$dir: $!\n";

my $errors = Agntkey::Random::Load::build($dir);
is($errors, '', 'the clients are built') or BAIL_OUT($errors);

# What it has acknowledged is on its disk when it is killed.
redis_start(args => ['--appendonly', 'yes', '--appendfsync', 'always']);

my $proxy = proxy();

# Where one of the two finds its Redis.
my ($link) = redis()->sock =~ m{(.*)/};
my $split = Agntkey::Random::Split->new(
    dir => $dir, redis => redis(), lease => $lease, link => "$link/now.sock",
    proxy => $proxy, seconds => 3);

my $server = <<'_EOC_';
access_log off;
keepalive_requests 100000;

location /t {
    agntkey on;
    add_header X-Cache $agntkey_cache always;
    add_header X-Pid $pid always;
    empty_gif;
}

location /agntkey/ {
    agntkey_admin on;
    agntkey_admin_token_file off;
}
_EOC_

sub configuration_test {
    my ($nginx) = @_;
    my $binary = Agntkey::Nginx::binary();

    $nginx->write_config;
    my $said = qx{$binary -t -p '$nginx->{root}/' \\
                  -c '$nginx->{root}/conf/nginx.conf' 2>&1};
    return $? == 0 ? '' : $said;
}

# Without the cache each request asks Redis, and the promise is easily kept.
my $cache = "agntkey_cache entries=1000 lease=${lease}s;";

my $said = configuration_test(Agntkey::Nginx->new(name => 'try',
                                                  http => $cache));

if ($said =~ /unknown directive "agntkey_cache"/) {
    note('this module has no cache');
    $cache = '';

} else {
    is($said, '', 'the cache can be switched on');
}

my %options = (
    connections => 1024, server => $server, log_level => 'notice',
    keep => qr/\[alert\] .*worker process \d+ exited on signal 9/,
);

# One shares its socket among the workers, and has the proxy before Redis;
# the workers of the other have one each.  Time-outs that are longer than the
# lease leave it to the lease to notice that nothing comes.
my @nginx = (
    Agntkey::Nginx->new(
        name => 'shared', workers => 3, port => free_port(), %options,
        http => "$cache agntkey_redis "
                . "redis://127.0.0.1:$ENV{TEST_NGINX_PROXY_PORT};"
                . 'agntkey_redis_timeout 2500ms;',
    )->start,
    Agntkey::Nginx->new(
        name => 'reuseport', workers => 2, port => free_port(), %options,
        listen => 'reuseport',
        http => "$cache agntkey_redis unix:$split->{link};",
    )->start,
);

my @ports = map { $_->{port} } @nginx;


# --- the run

my @loads = map {
    Agntkey::Random::Load->new(dir => $dir, name => "load-$_",
                               seed => next_seed(), rate => 2000,
                               busy => 40, lazy => 100, ports => \@ports)
} 1 .. 2;

# Keys that nobody has created, in places that no administrator has.
for my $n (0 .. 9) {
    $_->order('K', 900 + $n, 1, 0, key_for("nobody-$n")) for @loads;
}

# Some keys live where the workspace is switched off and on.
my @admins = map {
    Agntkey::Random::Admins->new(
        dir => $dir, number => $_, seed => next_seed(), kind => 'keys',
        workspaces => [('still') x 10, map { "restless-$_" } 11 .. 13],
        ports => \@ports, loads => \@loads)
} 1 .. 10;

# What one person does is certain; what two do at once is where calls meet.
push @admins, map {
    Agntkey::Random::Admins->new(
        dir => $dir, number => $_, seed => next_seed(), kind => 'workspace',
        workspaces => ['restless-' . ($_ < 14 ? $_ : 13)], ports => \@ports,
        loads => \@loads)
} 11 .. 14;

my $faults = Agntkey::Random::Faults->new(
    dir => $dir, seed => next_seed(), nginx => \@nginx, proxy => $proxy,
    redis => redis(), only => [split ' ', $ENV{RANDOM_FAULTS} // '']);
my $started = clock_gettime(CLOCK_MONOTONIC);

$faults->run($seconds);


# --- and after it

for my $nginx (@nginx) {
    redis()->disconnect;
    seed_key('one', workspace => $nginx->{name});

    my $key = key_for('one', workspace => $nginx->{name});

    # 200 and how it was found, twenty times
    my $all_are = sub {
        my ($want) = @_;

        return 20 == grep {
            my $res = eval { http('GET /t', port => $nginx->{port},
                                  headers => bearer($key)) };

            $res && join(' ', $res->{code},
                         $res->{headers}{'x-cache'} // '') =~ $want;
        } 1 .. 20;
    };

    ok(wait_until(15, sub { $all_are->(qr/^200 /) }),
       "$nginx->{name}: when the faults are over all is well");

    next if $cache eq '';

    ok(wait_until(15, sub { $all_are->(qr/^200 HIT$/) }),
       "$nginx->{name}: and keys are remembered");
}

# A key is created by the one and accepted by the other, which has had the
# primary that was cut off.
$split->run;

ok(wait_until(15, sub {
    my $res = eval { http('POST /agntkey/keys', port => $ports[1],
                          headers => 'Content-Type: application/json',
                          body => '{"workspace": "split", "name": "new"}') };
    my ($key) = ($res // {})->{body} =~ /"key":\s*"(\w+)"/ or return 0;

    return wait_until(5, sub {
        $res = eval { http('GET /t', port => $ports[0],
                           headers => bearer($key)) };
        $res && $res->{code} eq '200';
    });
}), 'a replica has taken over, and all is well');

my @stuck = Agntkey::Random::Admins::finish(@admins);
is(scalar @stuck, 0, 'every administrator has come to an end')
    or diag(map { "admin $_->{number}\n" } @stuck);

for my $load (@loads) {
    my ($status, $said) = $load->finish;

    ok(defined $status && $status == 0 && $said eq '',
       "$load->{name}: the clients have come to an end")
        or diag($status // 'no status', ": $said");
}

my $took = clock_gettime(CLOCK_MONOTONIC) - $started;
my $checker = Agntkey::Random::Checker->new(lease => $lease,
                                            cached => $cache ne '');

sub lines_of {
    my ($file) = @_;

    open my $in, '<', $file or die "$file: $!\n";
    return <$in>;
}

$checker->calls(map { lines_of($_->{log}) } @admins, $faults, $split);

for my $load (@loads) {
    open my $in, '<', $load->{log} or die "$load->{log}: $!\n";
    $checker->requests($in);
}

my %wrong = $checker->violations;

is(join(', ', map { "$_ $wrong{$_}" } sort keys %wrong), '',
   'the logs hold nothing that must not be')
    or diag(map { "$_\n" } $checker->shown);

# Nothing is wrong with a run in which nothing has happened.
for my $what (['revoked', 'keys were revoked'],
              ['after', 'requests began after that'],
              ['after_split', 'and after those by a new primary'],
              ['during_off', 'requests began while a workspace was off'])
{
    my ($name, $title) = @$what;
    cmp_ok($checker->{$name}, '>', 0, $title);
}

is(scalar(grep { $checker->{codes}{$_} } 200, 401, 403), 3,
   'requests were let in and refused, in every way')
    or diag(explain($checker->{codes}));

SKIP: {
    skip 'no cache', 3 if $cache eq '';

    cmp_ok($checker->{cache}{HIT} // 0, '>', 0, 'there were hits');
    cmp_ok($checker->{cache}{MISS} // 0, '>', 0, 'and misses');
    cmp_ok($checker->{acknowledged}, '>', 0,
           'and revocations that all workers have acknowledged');
}

note($_) for $checker->report($took);

for my $nginx (@nginx) {
    $nginx->stop;

    my @keys = grep { /agnt_\w{50}/ } lines_of($nginx->log_file);
    is(scalar @keys, 0, "$nginx->{name}: no key in the log");
}

logs_clean();

diag("with the same chances: make random RANDOM_SEED=$seed"
     . " RANDOM_SECONDS=$seconds") if !Test::More->builder->is_passing;

done_testing();
