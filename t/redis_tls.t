# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# rediss://: who is at the other end, who we are, and what happens when the
# two do not come to terms: 503 with a reason in the log, never a hang.

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

our $config = <<'_EOC_';
location /t { agntkey on; empty_gif; }
location /open { empty_gif; }
_EOC_

our $ca = <<'_EOC_';
agntkey_redis_ssl_trusted_certificate $TEST_NGINX_REDIS_CA;
_EOC_

our $ip = <<'_EOC_';
agntkey_redis rediss://127.0.0.1:$TEST_NGINX_REDIS_TLS_PORT; agntkey_cache off; agntkey_last_used off;
_EOC_

our $name = <<'_EOC_';
agntkey_redis rediss://localhost:$TEST_NGINX_REDIS_TLS_PORT; agntkey_cache off; agntkey_last_used off;
_EOC_

redis_start(tls => 1);
seed_key('one');

# An authority that nobody here knows, and what it has signed.
our $stranger = Agntkey::Redis->new(dir => test_dir() . '/stranger')
                ->certificates;
$ENV{TEST_NGINX_STRANGER_CA} = $stranger->{ca};
$ENV{TEST_NGINX_STRANGER_CERT} = $stranger->{client_cert};
$ENV{TEST_NGINX_STRANGER_KEY} = $stranger->{client_key};

# Lists of an authority: one without an entry, one with the certificate of
# Redis, one that is out of date.

sub crl {
    my ($name, $ca, $revoked, $valid) = @_;
    my $dir = test_dir() . "/crl-$name";

    mkdir $dir or die "$dir: $!\n";

    for my $file (["$dir/index", ''], ["$dir/number", "01\n"],
                  ["$dir/conf", "[ca]\ndefault_ca = it\n[it]\n"
                   . "database = $dir/index\ncrlnumber = $dir/number\n"
                   . "default_md = sha256\n"])
    {
        open my $out, '>', $file->[0] or die "$file->[0]: $!\n";
        print $out $file->[1];
        close $out;
    }

    my $key = $ca =~ s/\.crt$/.key/r;
    my $openssl = "openssl ca -config '$dir/conf' -cert '$ca'"
                  . " -keyfile '$key'";

    for my $command ($revoked ? "$openssl -revoke '$revoked'" : (),
                     "$openssl -gencrl $valid -out '$dir/crl.pem'")
    {
        my $out = qx{$command 2>&1};
        die "$command:\n$out" if $? != 0;
    }

    return "$dir/crl.pem";
}

my $tls = redis()->certificates;
$ENV{TEST_NGINX_CRL_EMPTY} = crl('empty', $tls->{ca}, undef, '-crldays 2');
$ENV{TEST_NGINX_CRL_REVOKED} = crl('revoked', $tls->{ca}, $tls->{cert},
                                   '-crldays 2');
$ENV{TEST_NGINX_CRL_EXPIRED} = crl('expired', $tls->{ca}, undef,
    '-crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z');
$ENV{TEST_NGINX_CRL_STRANGER} = crl('stranger', $stranger->{ca}, undef,
                                    '-crldays 2');

# 503 for each of some requests, in time, with one line that says why.

sub fails {
    my ($why) = @_;

    for my $n (1 .. 5) {
        my $res = ask('one');
        answer_is($res, 503, "request $n: 503");
        is_true($res->{time} < 3, "request $n: in time", $res->{time});
    }

    is_true(log_lines(qr/\[error\] .*agntkey: Redis .* is away: $why/) >= 1,
            'the log says why', log_lines(qr/./));
    is_true(log_lines(qr/is away/) <= 2, 'not for each request',
            log_lines(qr/./));
}

sub works {
    # localhost may have an address where nobody listens.
    wait_until(5, sub { ask('one')->{code} eq '200' });
    answer_is(ask('one'), 200, 'a good key: 200');
    answer_is(ask('two'), '401 unknown', 'an unknown key: 401');
}

sub protocols {
    redis_cmd('CONFIG', 'SET', 'tls-protocols', $_[0]);
}

watch_logs();
run_tests();
logs_clean();

__DATA__

=== TEST 1: an IP address, and a certificate for it: 200
--- http_config eval: $::ip . $::ca
--- config eval: $::config
--- init
main::works();
redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
is_true(log_wait(qr/\[info\] .*was lost/), 'cut off');
main::works();
--- request
GET /open
--- no_error_log
[error]



=== TEST 2: a host name, and a certificate for it: 200
--- http_config eval: $::name . $::ca
--- config eval: $::config
--- init
main::works();
--- request
GET /open



=== TEST 3: many requests, large writes: 200
--- http_config eval: $::ip . $::ca
--- config eval: $::config
--- init
for my $round (1 .. 5) {
    my @waiting = map { ask_start('one') } 1 .. 40;
    my @codes = map { $_->response->{code} } @waiting;
    count_is(scalar(grep { $_ eq '200' } @codes), 40, "round $round",
             "@codes");
}
--- request
GET /open
--- no_error_log
[error]



=== TEST 4: an authority that is not trusted: 503
--- http_config
agntkey_redis rediss://127.0.0.1:$TEST_NGINX_REDIS_TLS_PORT; agntkey_cache off; agntkey_last_used off;
agntkey_redis_ssl_trusted_certificate $TEST_NGINX_STRANGER_CA;
--- config eval: $::config
--- init
main::fails('(?:unable to|self.signed|certificate)');
--- request
GET /open



=== TEST 5: only the authorities of the system: 503
--- http_config eval: $::ip
--- config eval: $::config
--- init
main::fails('(?:unable to|self.signed|certificate)');
--- request
GET /open



=== TEST 6: another name in the certificate: 503
--- http_config eval
$::ip . $::ca . "agntkey_redis_ssl_name redis.example;\n"
--- config eval: $::config
--- init
main::fails('hostname mismatch');
--- request
GET /open



=== TEST 7: another address in the certificate: 503
--- http_config eval: $::ip . $::ca . "agntkey_redis_ssl_name 127.0.0.2;\n"
--- config eval: $::config
--- init
main::fails('IP address mismatch');
--- request
GET /open



=== TEST 8: a name to expect instead of the address: 200
--- http_config eval: $::ip . $::ca . "agntkey_redis_ssl_name localhost;\n"
--- config eval: $::config
--- init
main::works();
--- request
GET /open
--- no_error_log
[error]



=== TEST 9: an address to expect instead of the name: 200
--- http_config eval: $::name . $::ca . "agntkey_redis_ssl_name 127.0.0.1;\n"
--- config eval: $::config
--- init
main::works();
--- request
GET /open



=== TEST 10: not verified: any authority and any name will do
--- http_config eval
$::ip . "agntkey_redis_ssl_verify off;\nagntkey_redis_ssl_name x.example;\n"
--- config eval: $::config
--- init
main::works();
--- request
GET /open
--- no_error_log
[error]



=== TEST 11: a server that wants a certificate has none: 503, then 200
--- http_config eval: $::ip . $::ca
--- config eval: $::config
--- post_setup_server_root
redis_cmd('CONFIG', 'SET', 'tls-auth-clients', 'yes');
--- init
main::fails('(?:write failed|read failed|closed by the other side|TLS)');
redis_cmd('CONFIG', 'SET', 'tls-auth-clients', 'optional');
is_true(log_wait(qr/is back/), 'it is back');
main::works();
--- request
GET /open
--- error_log eval
# how nginx itself says it depends on when the alert comes
qr/\[error\]|\[crit\]/



=== TEST 12: a server that wants a certificate gets it: 200
--- http_config eval
$::ip . $::ca
. "agntkey_redis_ssl_certificate $ENV{TEST_NGINX_REDIS_CLIENT_CERT};\n"
. "agntkey_redis_ssl_certificate_key $ENV{TEST_NGINX_REDIS_CLIENT_KEY};\n"
--- config eval: $::config
--- post_setup_server_root
redis_cmd('CONFIG', 'SET', 'tls-auth-clients', 'yes');
--- init
main::works();
redis_cmd('CONFIG', 'SET', 'tls-auth-clients', 'optional');
--- request
GET /open
--- no_error_log
[error]



=== TEST 13: a server that wants a certificate gets a stranger's: 503
--- http_config eval
$::ip . $::ca
. "agntkey_redis_ssl_certificate $ENV{TEST_NGINX_STRANGER_CERT};\n"
. "agntkey_redis_ssl_certificate_key $ENV{TEST_NGINX_STRANGER_KEY};\n"
--- config eval: $::config
--- post_setup_server_root
redis_cmd('CONFIG', 'SET', 'tls-auth-clients', 'yes');
--- init
main::fails('(?:write failed|read failed|closed by the other side|TLS)');
redis_cmd('CONFIG', 'SET', 'tls-auth-clients', 'optional');
--- request
GET /open
--- error_log eval
# how nginx itself says it depends on when the alert comes
qr/\[error\]|\[crit\]/



=== TEST 14: a protocol that both speak: 200
--- http_config eval
$::ip . $::ca . "agntkey_redis_ssl_protocols TLSv1.2;\n"
--- config eval: $::config
--- init
main::works();
--- request
GET /open
--- no_error_log
[error]



=== TEST 15: no protocol that both speak: 503, then 200
--- http_config eval
$::ip . $::ca . "agntkey_redis_ssl_protocols TLSv1.2;\n"
--- config eval: $::config
--- post_setup_server_root
main::protocols('TLSv1.3');
--- init
main::fails('TLS handshake failed');
main::protocols('TLSv1.2 TLSv1.3');
is_true(log_wait(qr/is back/), 'it is back');
main::works();
--- request
GET /open



=== TEST 16: TLS to a port that speaks none: 503, never a hang
--- http_config eval
'agntkey_redis rediss://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_last_used off; agntkey_cache off;'
. "agntkey_redis_connect_timeout 300ms;" . $::ca
--- config eval: $::config
--- init
main::fails('(?:no connection in time|TLS handshake failed)');
--- request
GET /open



=== TEST 17: no TLS to a port that speaks it: 503, never a hang
--- http_config
agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_TLS_PORT; agntkey_cache off; agntkey_last_used off;
--- config eval: $::config
--- init
main::fails('(?:Protocol error|closed by the other side|read failed)');
--- request
GET /open



=== TEST 18: a server that never says a word of TLS: 503 in time
--- http_config eval
'agntkey_redis rediss://127.0.0.1:$TEST_NGINX_FAKE_PORT; agntkey_last_used off; agntkey_cache off;'
. "agntkey_redis_connect_timeout 300ms;" . $::ca
--- config eval: $::config
--- post_setup_server_root
fake_redis(accept => 'stall');
--- init
main::fails('no connection in time');
--- request
GET /open



=== TEST 19: a server that talks nonsense instead of TLS: 503
--- http_config eval
'agntkey_redis rediss://127.0.0.1:$TEST_NGINX_FAKE_PORT; agntkey_last_used off; agntkey_cache off;' . $::ca
--- config eval: $::config
--- post_setup_server_root
fake_redis(accept => "-ERR max number of clients reached\r\n");
--- init
main::fails('TLS handshake failed');
--- request
GET /open



=== TEST 20: connections are reset inside TLS: 503, then 200
--- http_config eval
'agntkey_redis rediss://127.0.0.1:$TEST_NGINX_PROXY_PORT; agntkey_last_used off; agntkey_cache off;' . $::ca
--- config eval: $::config
--- post_setup_server_root
$::proxy = proxy(to => $ENV{TEST_NGINX_REDIS_TLS_PORT});
--- init
main::works();

$::proxy->pause;
my @waiting = map { ask_start('one') } 1 .. 5;
answer_is(http('GET /open'), 200, 'nginx is not held up');
$::proxy->refuse;

my @codes = map { $_->response->{code} } @waiting;
count_is(scalar(grep { $_ eq '503' } @codes), 5, 'all have 503', "@codes");

$::proxy->resume;
$::proxy->accept;
is_true(log_wait(qr/is back/), 'it is back', log_lines(qr/./));
main::works();
$::proxy->stop;
--- request
GET /open



=== TEST 21: Redis hangs behind TLS: 503 at the timeout, then 200
--- http_config eval: $::ip . $::ca
--- config eval: $::config
--- init
main::works();
redis()->pause;
answer_is(ask('one'), 503, "request $_: 503") for 1 .. 3;
redis()->resume;
is_true(log_wait(qr/is back/), 'it is back', log_lines(qr/./));
main::works();
--- request
GET /open
--- error_log
is away: no reply in time



=== TEST 22: a list of revoked certificates, and that of Redis is not on it: 200
--- http_config eval
$::ip . $::ca . "agntkey_redis_ssl_crl \$TEST_NGINX_CRL_EMPTY;\n"
--- config eval: $::config
--- init
main::works();
--- request
GET /open




=== TEST 23: the certificate of Redis is revoked: 503
--- http_config eval
$::ip . $::ca . "agntkey_redis_ssl_crl \$TEST_NGINX_CRL_REVOKED;\n"
--- config eval: $::config
--- init
main::fails('certificate revoked');
--- request
GET /open




=== TEST 24: a list that has expired: 503
--- http_config eval
$::ip . $::ca . "agntkey_redis_ssl_crl \$TEST_NGINX_CRL_EXPIRED;\n"
--- config eval: $::config
--- init
main::fails('CRL has expired');
--- request
GET /open




=== TEST 25: a list of another authority: 503
--- http_config eval
$::ip . $::ca . "agntkey_redis_ssl_crl \$TEST_NGINX_CRL_STRANGER;\n"
--- config eval: $::config
--- init
main::fails('CRL signature failure');
--- request
GET /open



=== TEST 26: revoked, and not verified: 200
--- http_config eval
$::ip . $::ca . "agntkey_redis_ssl_crl \$TEST_NGINX_CRL_REVOKED;\n"
    . "agntkey_redis_ssl_verify off;\n"
--- config eval: $::config
--- init
main::works();
--- request
GET /open
--- no_error_log
[error]
