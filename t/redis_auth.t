# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Who nginx is to Redis: passwords, users and what they may do, databases.
# What Redis refuses is a 503 that names the command, and no secret is ever
# written down.

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

our $config = <<'_EOC_';
location /t { agntkey on; empty_gif; }
location /open { empty_gif; }
_EOC_

# As a user sets it, and as it stands in a URL.
our $secret = 'x7 Q/%:@?#y2';
our $encoded = 'x7%20Q%2F%25%3a%40%3F%23y2';

our @all = ('~agntkey:*', '+ping', '+client', '+hmget', '+hget', '+select');

sub url {
    my ($userinfo, $more) = @_;
    my $port = $ENV{TEST_NGINX_REDIS_PORT};

    return "agntkey_redis redis://$userinfo\@127.0.0.1:$port"
           . ($more // '') . "; agntkey_cache off;\n";
}

sub user {
    my (@rules) = @_;
    redis_cmd('ACL', 'SETUSER', 'app', 'reset', 'on', ">$secret",
              redis_rules(@rules));
}

# Neither form of the secret, not even in a debug line.

sub nowhere {
    my (@more) = @_;
    my @found;

    for my $file (glob "$ENV{TEST_NGINX_SERVROOT}/logs/*.log") {
        open my $in, '<', $file or next;
        push @found, grep { /\Q$secret\E|\Q$encoded\E|x7|y2/ } <$in>;
    }

    is_true(!@found, 'no password in a log', @found);
}

sub recovers {
    my ($back) = @_;

    is_true(log_wait(qr/is back/, $back // 1), 'it is back',
            log_lines(qr/./));
    answer_is(ask('one'), 200, 'then: 200');
}

redis_start();

add_block_preprocessor(sub {
    redis_cmd('CONFIG', 'SET', 'requirepass', '');
    redis_cmd('ACL', 'SETUSER', 'app', 'reset');
    redis_cmd('FLUSHALL');
    seed_key('one');
});

# Afterwards the suite itself must get in again.
add_test_cleanup_handler(sub {
    redis_cmd('CONFIG', 'SET', 'requirepass', '');
});

# The lines of the blocks in which nginx is not to start.
watch_logs(allow => qr/\[emerg\] .*"agntkey_redis"/);
run_tests();
logs_clean();

__DATA__

=== TEST 1: requirepass, the password in the URL: 200
--- http_config eval: main::url(":$::encoded")
--- config eval: $::config
--- post_setup_server_root
redis_cmd('CONFIG', 'SET', 'requirepass', $::secret);
--- init
answer_is(ask('one'), 200, 'a good key: 200');
answer_is(ask('two'), '401 unknown', 'an unknown key: 401');
main::nowhere();
--- request
GET /open
--- no_error_log
[error]



=== TEST 2: requirepass, no password: 503 that names the command, one line
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- post_setup_server_root
redis_cmd('CONFIG', 'SET', 'requirepass', $::secret);
--- init
answer_is(ask('one'), 503, "request $_: 503") for 1 .. 10;
count_is(scalar log_lines(qr/\[error\]/), 1, 'one line', log_lines(qr/./));
redis_cmd('CONFIG', 'SET', 'requirepass', '');
main::recovers();
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis .* is away: PING: NOAUTH Authentication required/



=== TEST 3: requirepass, the wrong password: 503, no tight loop, no password
--- http_config eval: main::url(":not-$::encoded")
--- config eval: $::config
--- post_setup_server_root
redis_cmd('CONFIG', 'SET', 'requirepass', $::secret);
--- init
answer_is(ask('one'), 503, 'a good key: 503');
redis_cmd('CONFIG', 'RESETSTAT');

my $end = Time::HiRes::time() + 2;
ask('one') while Time::HiRes::time() < $end;

my ($attempts) = redis_cmd('INFO', 'stats')
                 =~ /^total_connections_received:(\d+)/m;
is_true($attempts > 0 && $attempts <= 12, 'few attempts in two seconds',
        $attempts);
count_is(scalar log_lines(qr/\[error\]/), 1, 'one line', log_lines(qr/./));

redis_cmd('CONFIG', 'SET', 'requirepass', "not-$::secret");
main::recovers();
main::nowhere();
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis .* is away: AUTH: WRONGPASS /



=== TEST 4: a password for a server that has none: 503 with the reason
--- http_config eval: main::url(":$::encoded")
--- config eval: $::config
--- init
answer_is(ask('one'), 503, 'a good key: 503');
main::nowhere();
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis .* is away: AUTH: ERR AUTH <password> called/



=== TEST 5: a user with a password: 200
--- http_config eval: main::url("app:$::encoded")
--- config eval: $::config
--- post_setup_server_root
main::user(@::all);
--- init
answer_is(ask('one'), 200, 'a good key: 200');
is_true(redis_cmd('CLIENT', 'LIST') =~ / name=agntkey .*user=app /,
        'connected as that user', redis_cmd('CLIENT', 'LIST'));
main::nowhere();
--- request
GET /open
--- no_error_log
[error]



=== TEST 6: the user's password is wrong, then right: 503, then 200
--- http_config eval: main::url("app:not-$::encoded")
--- config eval: $::config
--- post_setup_server_root
main::user(@::all);
--- init
answer_is(ask('one'), 503, 'a good key: 503');
redis_cmd('ACL', 'SETUSER', 'app', ">not-$::secret");
main::recovers();
main::nowhere();
--- request
GET /open
--- error_log
is away: AUTH: WRONGPASS



=== TEST 7: a user that is there no more loses the connection: 503, then 200
--- http_config eval: main::url("app:$::encoded")
--- config eval: $::config
--- post_setup_server_root
main::user(@::all);
--- init
answer_is(ask('one'), 200, 'before: 200');
redis_cmd('ACL', 'DELUSER', 'app');
answer_is(ask('one'), 503, 'without the user: 503');
main::user(@::all);
main::recovers();
main::nowhere();
--- request
GET /open
--- error_log
is away: AUTH: WRONGPASS



=== TEST 8: the password in a file, for all users: 200
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off; agntkey_last_used off;
agntkey_redis_password_file redis.password;
--- config eval: $::config
--- post_setup_server_root
open my $out, '>', "$ENV{TEST_NGINX_SERVROOT}/conf/redis.password";
print $out "$::secret\r\nwhat follows is not read\n";
close $out;
redis_cmd('CONFIG', 'SET', 'requirepass', $::secret);
--- init
answer_is(ask('one'), 200, 'a good key: 200');
main::nowhere();
--- request
GET /open



=== TEST 9: the password in a file, for a user: 200
--- http_config
agntkey_redis redis://app:@127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off; agntkey_last_used off;
agntkey_redis_password_file $TEST_NGINX_SERVROOT/conf/redis.password;
--- config eval: $::config
--- post_setup_server_root
open my $out, '>', "$ENV{TEST_NGINX_SERVROOT}/conf/redis.password";
print $out $::secret;
close $out;
main::user(@::all);
--- init
answer_is(ask('one'), 200, 'a good key: 200');
is_true(redis_cmd('CLIENT', 'LIST') =~ / name=agntkey .*user=app /,
        'connected as that user', redis_cmd('CLIENT', 'LIST'));
main::nowhere();
--- request
GET /open



=== TEST 10: a user who may do no more than is needed: 200
--- http_config eval: main::url("app:$::encoded")
--- config eval: $::config
--- post_setup_server_root
main::user('%R~agntkey:key:*', '%R~agntkey:workspace:*',
           '~agntkey:key:canary:*', '+ping', '+hmget', '+hget', '+del');
--- init
answer_is(ask('one'), 200, "request $_: 200") for 1, 2;
--- request
GET /open
--- no_error_log eval
[qr/\[error\]/, qr/\[warn\]/]



=== TEST 11: a user who may not HMGET: 503, one line that names it, then 200
--- http_config eval: main::url("app:$::encoded")
--- config eval: $::config
--- post_setup_server_root
main::user(@::all, '-hmget');
--- init
answer_is(ask('one'), 503, "request $_: 503") for 1 .. 10;
count_is(scalar log_lines(qr/\[error\]/), 1, 'one line', log_lines(qr/./));
redis_cmd('ACL', 'SETUSER', 'app', '+hmget');
answer_is(ask('one'), 200, 'once he may: 200');
main::nowhere();
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis answered HMGET agntkey:key: with: NOPERM /



=== TEST 12: a user who may not HGET: 503, one line that names it, then 200
--- http_config eval: main::url("app:$::encoded")
--- config eval: $::config
--- post_setup_server_root
main::user(@::all, '-hget');
--- init
answer_is(ask('one'), 503, "request $_: 503") for 1 .. 10;
count_is(scalar log_lines(qr/\[error\]/), 1, 'one line', log_lines(qr/./));
redis_cmd('ACL', 'SETUSER', 'app', '+hget');
answer_is(ask('one'), 200, 'once he may: 200');
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis answered HGET agntkey:workspace: with: NOPERM /



=== TEST 13: a user who may not read these keys: 503, not "unknown"
--- http_config eval: main::url("app:$::encoded")
--- config eval: $::config
--- post_setup_server_root
main::user(@::all, 'resetkeys', '~other:*');
--- init
answer_is(ask('one'), 503, 'a good key: 503');
answer_is(ask('two'), 503, 'another: 503');
redis_cmd('ACL', 'SETUSER', 'app', '~agntkey:*');
answer_is(ask('one'), 200, 'once he may: 200');
--- request
GET /open
--- error_log eval
qr/\[error\] .*Redis answered HMGET agntkey:key: with: NOPERM /



=== TEST 14: a user who may not PING: 503 that names it, then 200
--- http_config eval: main::url("app:$::encoded")
--- config eval: $::config
--- post_setup_server_root
main::user(@::all, '-ping');
--- init
answer_is(ask('one'), 503, 'a good key: 503');
redis_cmd('ACL', 'SETUSER', 'app', '+ping');
main::recovers();
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis .* is away: PING: NOPERM /



=== TEST 15: a user who may not name his connection: 200
--- http_config eval: main::url("app:$::encoded")
--- config eval: $::config
--- post_setup_server_root
main::user(@::all, '-client');
--- init
answer_is(ask('one'), 200, 'a good key: 200');
--- request
GET /open
--- no_error_log
[error]



=== TEST 16: a database of its own: its keys are good, no others
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT/3; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- post_setup_server_root
redis_cmd('SELECT', 3);
seed_key('three');
redis_cmd('SELECT', 0);
--- init
answer_is(ask('three'), 200, 'a key of that database: 200');
answer_is(ask('one'), '401 unknown', 'a key of another: 401');
redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
is_true(log_wait(qr/was lost/), 'a new connection');
answer_is(ask('three'), 200, 'after that: 200');
answer_is(ask('one'), '401 unknown', 'after that: 401');
--- request
GET /open
--- no_error_log
[error]



=== TEST 17: a unix socket: 200
--- http_config
agntkey_redis unix:$TEST_NGINX_REDIS_SOCK; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- init
answer_is(ask('one'), 200, 'a good key: 200');
answer_is(ask('two'), '401 unknown', 'an unknown key: 401');
--- request
GET /open
--- no_error_log
[error]



=== TEST 18: a unix socket and a database: its keys are good, no others
--- http_config
agntkey_redis unix:$TEST_NGINX_REDIS_SOCK?db=3; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- post_setup_server_root
redis_cmd('SELECT', 3);
seed_key('three');
redis_cmd('SELECT', 0);
--- init
answer_is(ask('three'), 200, 'a key of that database: 200');
answer_is(ask('one'), '401 unknown', 'a key of another: 401');
--- request
GET /open



=== TEST 19: a database that is not there: 503 with the reason
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT/99; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- init
answer_is(ask('one'), 503, 'a good key: 503');
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis .* is away: SELECT: ERR DB index is out of range/



=== TEST 20: a user who may not SELECT: 503 that names it, then 200
--- http_config eval: main::url("app:$::encoded", '/3')
--- config eval: $::config
--- post_setup_server_root
main::user(@::all, '-select');
redis_cmd('SELECT', 3);
seed_key('one');
redis_cmd('SELECT', 0);
--- init
answer_is(ask('one'), 503, 'a good key: 503');
redis_cmd('ACL', 'SETUSER', 'app', '+select');
main::recovers();
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis .* is away: SELECT: NOPERM /



=== TEST 21: NOAUTH on an established connection: a new one says who it is
--- http_config eval
"agntkey_redis redis://:$::encoded\@127.0.0.1:\$TEST_NGINX_FAKE_PORT; agntkey_last_used off; agntkey_cache off;"
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => ['one', 'two'],
           rules => [{ match => qr/^HMGET/, nth => 1,
                       do => "-NOAUTH Authentication required.\r\n" },
                     { match => qr/^HGET/, nth => 2,
                       do => "-NOAUTH Authentication required.\r\n" }]);
--- init
answer_is(ask('one'), 503, 'NOAUTH for the key: 503');
answer_is(ask('one'), 200, 'the next: 200');
count_is(scalar fake_commands(qr/^AUTH/), 2, 'AUTH was sent again');
answer_is(ask('two'), 503, 'NOAUTH for the workspace: 503');
answer_is(ask('two'), 200, 'the next: 200');
count_is(scalar fake_commands(qr/^AUTH/), 3, 'AUTH was sent again');
main::nowhere();
--- request
GET /open
--- error_log eval
qr/\[error\] .*agntkey: Redis answered HMGET agntkey:key: with: NOAUTH /



=== TEST 22: NOAUTH for one of two commands: the key is not called bad
--- http_config eval
"agntkey_redis redis://:$::encoded\@127.0.0.1:\$TEST_NGINX_FAKE_PORT; agntkey_last_used off; agntkey_cache off;"
--- config eval: $::config
--- post_setup_server_root
fake_redis(keys => ['one'],
           rules => [{ match => qr/^HMGET/, nth => 2,
                       do => "-NOAUTH Authentication required.\r\n" }]);
--- init
answer_is(ask('one'), 200, 'before: 200');

# Its other command is lost with the connection, and so tried once more.
is_true(ask('one')->{code} =~ /^(?:200|503)$/, 'NOAUTH: 200 or 503');
answer_is(ask('one'), 200, 'the next: 200');
count_is(scalar fake_commands(qr/^AUTH/), 2, 'AUTH was sent again');
--- request
GET /open



=== TEST 23: a URL that is refused does not show its password
--- http_config eval: main::url(":$::encoded", '/x')
--- config eval: $::config
--- must_die
--- suppress_stderr
--- error_log eval
qr/\[emerg\] .*bad URL in "agntkey_redis": invalid database number/
--- no_error_log
x7
y2



=== TEST 24: a host that is not found does not show the password
--- http_config eval
"agntkey_redis redis://app:$::encoded\@nowhere.invalid:6379; agntkey_last_used off; agntkey_cache off;"
--- config eval: $::config
--- must_die
--- suppress_stderr
--- error_log eval
qr/\[emerg\] .*"agntkey_redis" "nowhere\.invalid:6379"/
--- no_error_log
x7
y2



=== TEST 25: a directive given twice does not show the password
--- http_config eval: main::url(":$::encoded") . main::url(":$::encoded")
--- config eval: $::config
--- must_die
--- suppress_stderr
--- error_log eval
qr/\[emerg\] .*"agntkey_redis" directive is duplicate/
--- no_error_log
x7
y2



=== TEST 26: a bad encoding does not show the password
--- http_config eval: main::url(":$::encoded%zz")
--- config eval: $::config
--- must_die
--- suppress_stderr
--- error_log eval
qr/\[emerg\] .*"agntkey_redis": a bad percent-encoding in the password/
--- no_error_log
x7
y2



=== TEST 27: nginx -t says nothing of the password
--- http_config eval: main::url(":$::encoded")
--- config eval: $::config
--- init
my $nginx = "$Test::Nginx::Util::NginxBinary -p $ENV{TEST_NGINX_SERVROOT}/"
            . " -c $ENV{TEST_NGINX_SERVROOT}/conf/nginx.conf";
my $said = `$nginx -t 2>&1`;

count_is($?, 0, 'nginx -t is content', $said);
is_true($said !~ /x7|y2/, 'it does not say the password', $said);
main::nowhere();
--- request
GET /open



=== TEST 28: a user who may not DEL a canary: works, and one line says what is lost
--- http_config eval: main::url("app:$::encoded")
--- config eval: $::config
--- post_setup_server_root
main::user('%R~agntkey:key:*', '%R~agntkey:workspace:*',
           '+ping', '+hmget', '+hget');
--- init
answer_is(ask('one'), 200, "request $_: 200") for 1 .. 5;
count_is(scalar log_lines(qr/\[warn\]/), 1, 'one line', log_lines(qr/./));
count_is(scalar(grep { /^del$/ } map { my %entry = @$_; $entry{object} // '' }
                @{ redis_cmd('ACL', 'LOG') }),
         1, 'and one attempt');
--- request
GET /open
--- error_log
[warn]
a primary that is cut off from its replicas is not noticed
--- no_error_log
[error]
