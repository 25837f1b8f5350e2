# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# A key in the query is what the client has sent, whatever becomes of the
# arguments: an error page has none, a rewrite has others.  It is the same
# client with the same key, and an outage is never told as a bad key.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();

my $good = seed_key('one');
my $none = key_for('nobody');
my $secret = $good =~ s/^agnt_//r;
my $id = key_id($good);

our $redis = 'agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; ';
our $away = 'agntkey_redis redis://127.0.0.1:$TEST_NGINX_CLOSED_PORT; ';

our $maps = <<'_EOC_';
    map $arg_key $mapped { default $arg_key; }
    map $arg_key $fresh { volatile; default $arg_key; }
    map $args $of_args { "~(?:^|&)key=([^&]*)" $1; }
    map $request_uri $of_uri { "~[?&]key=([^&]*)" $1; }
_EOC_

# "TOKEN" is how the location reads the key.

our $config = <<'_EOC_';
    root html;
    access_log off;
    agntkey on;
    TOKEN

    add_header X-Id "<$agntkey_id>" always;
    add_header X-Status "<$agntkey_status>" always;
    add_header X-Args "<$args>" always;

    error_page 500 502 503 504 /50x.html;
    error_page 404 /404.html;
    error_page 410 = /page?other=1;
    error_page 411 = @named;

    location /gone { agntkey off; empty_gif; }
    location /app { proxy_pass http://127.0.0.1:$TEST_NGINX_CLOSED_PORT; }
    location /t { }

    location /try { try_files /nothing /page; }
    location /try_args { try_files /nothing /page?b=c; }
    location /try_key { try_files /nothing /page?key=no-key; }
    location /try_named { try_files /nothing @named; }
    location @named { try_files /page =404; }
    location /open_try { agntkey off; try_files /nothing /page?b=c; }

    location /accel { proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/up; }
    location /up {
        agntkey off;
        add_header X-Accel-Redirect /page?other=1;
        return 200;
    }

    location /gone_page { return 410; }
    location /gone_named { return 411; }

    location /rewrite { rewrite ^ /page? last; }
    location /rewrite_args { rewrite ^ /page?b=c? last; }
    location /rewrite_break { rewrite ^ /page?b=c? break; }
    location /rewrite_twice { rewrite ^ /page?key=other last; }
    location /set { set $args ""; rewrite ^ /page break; }
    location /set_other { set $args "key=no-key"; rewrite ^ /page break; }

    location /dir/ { }
_EOC_

our $user_files = ">>> page\npage\n>>> t\nt\n>>> 404.html\nnot found\n"
                  . ">>> 50x.html\noutage\n>>> dir/index.html\nindex\n";

# how a location reads the key, and what it is in the query
our %tokens = (
    arg      => ['agntkey_token $arg_key;', $good, $none],
    braces   => ['agntkey_token ${arg_key};', $good, $none],
    several  => ['agntkey_token $http_x_key$arg_key;', $good, $none],
    map      => ['agntkey_token $mapped;', $good, $none],
    volatile => ['agntkey_token $fresh;', $good, $none],
    args     => ['agntkey_token $of_args;', $good, $none],
    uri      => ['agntkey_token $of_uri;', $good, $none],
    text     => ['agntkey_token "agnt_$arg_key";', $secret,
                 $none =~ s/^agnt_//r],
);

my %way = (
    't'             => [200, "t\n"],
    'none'          => [404, "not found\n"],
    'app'           => [502, "outage\n"],
    'try'           => [200, "page\n"],
    'try_args'      => [200, "page\n"],
    'try_key'       => [200, "page\n"],
    'try_named'     => [200, "page\n"],
    'open_try'      => [200, "page\n"],
    'accel'         => [200, "page\n"],
    'gone_page'     => [200, "page\n"],
    'gone_named'    => [200, "page\n"],
    'rewrite'       => [200, "page\n"],
    'rewrite_args'  => [200, "page\n"],
    'rewrite_break' => [200, "page\n"],
    'rewrite_twice' => [200, "page\n"],
    'set'           => [200, "page\n"],
    'set_other'     => [200, "page\n"],
    'dir/'          => [200, "index\n"],
);

sub config {
    my ($how) = @_;
    return $config =~ s/TOKEN/$tokens{$how}[0]/r;
}


sub ways {
    my ($how) = @_;
    my (undef, $key, $unknown) = @{ $tokens{$how} };

    for my $way (sort keys %way) {
        my ($code, $body) = @{ $way{$way} };
        my $title = "$how, /$way";

        my $res = http("GET /$way?a=1&key=$key");
        my $h = $res->{headers};

        is($res->{code}, $code, "$title: a good key is none that is bad");
        is($res->{body}, $body, "$title: the page");
        is($h->{'x-status'}, '<ok>', "$title: the decision");
        is($h->{'x-id'}, "<$id>", "$title: the id");
        ok(!exists $h->{'www-authenticate'}, "$title: no challenge");

        answer_is(http("GET /$way?key=$unknown"), '401 unknown',
                  "$title: an unknown key");

        next if $how eq 'text';

        answer_is(http("GET /$way"), '401 missing', "$title: no key");
        answer_is(http("GET /$way?key="), '401 missing', "$title: empty");
    }
}


# What the client has sent is counted, not what nginx has made of it.

sub twice {
    for my $way (sort keys %way) {
        answer_is(http("GET /$way?key=$good&b&key=$good"), '400 ambiguous',
                  "/$way: twice");
        answer_is(http("GET /$way?key=$good&KEY=x"), '400 ambiguous',
                  "/$way: twice, and a shorter one");
        answer_is(http("GET /$way?key=$good", headers => bearer($good)),
                  '400 ambiguous', "/$way: in Authorization as well");
    }
}


# A key that nginx puts in was not sent.

sub put_in {
    answer_is(http('GET /set_key'), '401 missing', 'set');
    answer_is(http('GET /rewrite_key'), '401 missing', 'rewrite');
    answer_is(http('GET /try_key'), '401 missing', 'try_files');
}


# Where the query of a request line begins and ends.

sub lines {
    my @good = ("/t?key=$good", "/t?a=%3Fkey&key=$good", "/t?Key=$good",
                "/t?a?b&key=$good", "/t/../t?key=$good", "/t?key=$good&",
                "/%74?key=$good", "http://localhost/t?key=$good",
                "http://localhost//t?key=$good", "/t?key=$good#x",
                "/t?&&key=$good");
    my @bad = ("/t#?key=$good", "/t%3Fkey=$good", "/t?a#&key=$good",
               "/t;key=$good", "/t?xkey=$good", "/t?a;key=$good",
               "/t?key", "/t?", "/t?a=key=$good");

    for my $line (@good) {
        my $title = $line =~ s/\Q$good\E/.../r;

        is(http("GET $line")->{code}, 200, "$title: a key");
        is(http('GET ' . ($line =~ s{\bt(?=[?#])|%74}{try_args}r))->{code},
           200, "$title: and elsewhere");
    }

    for my $line (@bad) {
        my $title = $line =~ s/\Q$good\E/.../r;

        is(http("GET $line")->{code}, 401, "$title: none");
    }
}


sub outage {
    for my $way ('t', 'none', 'app', 'dir/') {
        my $res = http("GET /$way?key=$good");

        is($res->{code}, 503, "/$way: 503");
        is($res->{headers}{'x-status'}, '<store_unavailable>',
           "/$way: the reason");
        ok(!exists $res->{headers}{'www-authenticate'},
           "/$way: no challenge");
    }

    # A page that is open is shown.
    my $res = http("GET /open/t?key=$good");

    is($res->{code}, 503, 'an open page: 503');
    is($res->{body}, "outage\n", 'an open page: the page');
}


# nginx itself writes down what was asked for.
watch_logs(strip => qr/"GET [^"]*"|upstream: "[^"]*"|args: "[^"]*"/);
run_tests();
logs_clean();

__DATA__

=== $arg_key
--- http_config eval: $::redis . $::maps
--- user_files eval: $::user_files
--- config eval: ::config('arg')
--- init
::ways('arg');
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== ${arg_key}
--- http_config eval: $::redis . $::maps
--- user_files eval: $::user_files
--- config eval: ::config('braces')
--- init
::ways('braces');
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== a header, or an argument; without the cache
--- http_config eval: $::redis . $::maps . 'agntkey_cache off;'
--- user_files eval: $::user_files
--- config eval: ::config('several')
--- init
::ways('several');
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== a map of an argument
--- http_config eval: $::redis . $::maps
--- user_files eval: $::user_files
--- config eval: ::config('map')
--- init
::ways('map');
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== a map that is not remembered
--- http_config eval: $::redis . $::maps
--- user_files eval: $::user_files
--- config eval: ::config('volatile')
--- init
::ways('volatile');
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== a map of all arguments
--- http_config eval: $::redis . $::maps
--- user_files eval: $::user_files
--- config eval: ::config('args')
--- init
::ways('args');
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== a map of the request line
--- http_config eval: $::redis . $::maps
--- user_files eval: $::user_files
--- config eval: ::config('uri')
--- init
::ways('uri');
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== an argument in a text
--- http_config eval: $::redis . $::maps
--- user_files eval: $::user_files
--- config eval: ::config('text')
--- init
::ways('text');
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: malformed



=== two in the query are two, and one is one
--- http_config eval: $::redis . $::maps
--- user_files eval: $::user_files
--- config eval: ::config('arg')
--- init
::twice();
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: ambiguous



=== what nginx puts into the arguments is no key
--- http_config eval: $::redis
--- user_files eval: $::user_files
--- config eval
my $good = seed_key('one');
::config('arg') . <<_EOC_
    location /set_key { set \$args "key=$good"; rewrite ^ /page break; }
    location /rewrite_key { rewrite ^ /page?key=$good last; }
_EOC_
--- init
::put_in();
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== where a query begins and ends
--- http_config eval: $::redis
--- user_files eval: $::user_files
--- config eval: ::config('arg')
--- init
::lines();
--- request
GET /t
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== an outage of Redis is 503, with the stock error page
--- http_config eval: $::away
--- user_files eval
$::user_files . ">>> open/t\nt\n>>> open/50x.html\noutage\n"
--- config eval
::config('arg') . <<'_EOC_'
    location /open/ { error_page 503 /open/50x.html; }
    location = /open/50x.html { agntkey off; }
_EOC_
--- init
::outage();
--- request
GET /t
--- error_code: 401
--- error_log eval
qr/\[error\] .*is away/
