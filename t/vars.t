# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The variables: what each of them is after every decision, before it, and
# without one.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use POSIX ();
use Test::Nginx::Socket 'no_plan';

redis_start();

my $name = "Ann's \"first\" key \\ \xc3\xa9";

my %keys = (
    one     => seed_key('one', name => $name, scopes => 'a b:c/d',
                        expires_at => 4102444800000),
    never   => seed_key('never', name => 'n', scopes => 'a'),
    revoked => seed_key('revoked', active => undef, scopes => 'a'),
    expired => seed_key('expired', expires_at => 1700000001000),
    off     => seed_key('off', workspace => 'shut', scopes => 'a'),
    other   => seed_key('other', workspace => 'other', scopes => 'a'),
    poor    => seed_key('poor', name => 'poor', scopes => 'b'),
    unknown => key_for('unknown'),
);

seed_workspace('shut', active => undef);

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;

    log_format all '<$agntkey_status><$agntkey_id><$agntkey_workspace>'
                   '<$agntkey_name><$agntkey_scopes><$agntkey_expires>'
                   '<$agntkey_cache>';

    limit_req_zone $agntkey_id zone=keys:1m rate=1r/m;

    map $agntkey_status $class {
        ok good;
        '' none;
        default bad;
    }
_EOC_

# The same question twice: nginx remembers the first answer of a map, unless it
# is volatile.
our $maps = $http_config . <<'_EOC_';
    map $agntkey_workspace $pool {
        volatile;
        acme first;
        default none;
    }

    map $agntkey_workspace $kept {
        acme first;
        default none;
    }
_EOC_

our $away = $http_config =~ s/REDIS_PORT/CLOSED_PORT/r;

our $headers = <<'_EOC_';
        root html;
        access_log logs/access.log all;
        set $early_id $agntkey_id;
        set $early_status $agntkey_status;
        set $early_name $agntkey_name;
        add_header X-Status "<$agntkey_status>" always;
        add_header X-Id "<$agntkey_id>" always;
        add_header X-Workspace "<$agntkey_workspace>" always;
        add_header X-Name "<$agntkey_name>" always;
        add_header X-Scopes "<$agntkey_scopes>" always;
        add_header X-Expires "<$agntkey_expires>" always;
        add_header X-Cache "<$agntkey_cache>" always;
        add_header X-Early "<$early_id><$early_status><$early_name>" always;
        add_header X-Class "<$class>" always;
_EOC_

our $config = $headers . <<'_EOC_';
        agntkey_workspace acme shut;
        agntkey_scope a;

        location /v1 { agntkey on; }
        location /open { }
        location /open_query { agntkey_token $arg_key; }

        location /query {
            agntkey on;
            agntkey_token $arg_key;
        }

        location /limited {
            agntkey on;
            limit_req zone=keys;
            limit_req_status 429;
        }

        location /open_limited {
            limit_req zone=keys;
            limit_req_status 429;
        }

        location /app {
            agntkey on;
            proxy_set_header Authorization "";
            proxy_set_header X-Workspace $agntkey_workspace;
            proxy_set_header X-Key "$agntkey_id $agntkey_name";
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/up;
        }

        location /up {
            return 200 "$http_x_workspace $http_x_key [$http_authorization]";
        }
_EOC_

our $user_files = join '', map { ">>> $_\nhello\n" }
    qw(v1 open open_query query limited open_limited);


# vars('GET /path', key, status => ..., id => ..., and so on): what is not
# named is empty.

sub vars {
    my ($line, $key, %want) = @_;
    my $res = http($line, headers => $key ? bearer($key) : '');
    my $h = $res->{headers};

    $line =~ s/key=\w+/key=.../g;

    is($res->{code}, $want{code}, "$line - code") if $want{code};

    is($h->{"x-$_"}, '<' . ($want{$_} // '') . '>',
       "$line $want{status} - \$agntkey_$_")
        for qw(status id workspace name scopes expires cache);

    # In the rewrite phase of the server no location is known yet.
    is($h->{'x-early'}, '<' . ($key && $want{id} || '') . '><><>',
       "$line $want{status} - before the decision there is only the id");
}


sub decided {
    my @one = (id => key_id($keys{one}), workspace => 'acme',
               name => $name, scopes => 'a b:c/d', cache => 'MISS',
               expires => '2100-01-01T00:00:00.000Z');

    vars('GET /v1', $keys{one}, code => 200, status => 'ok', @one);
    vars('GET /v1', $keys{never}, status => 'ok', name => 'n',
         id => key_id($keys{never}), workspace => 'acme', scopes => 'a',
         cache => 'MISS');
    vars("GET /query?key=$keys{one}", '', status => 'ok', @one);

    # A key that is in force, and may not do this: it says who it is.
    vars('GET /v1', $keys{other}, code => 403, name => 'a key',
         status => 'workspace_mismatch', id => key_id($keys{other}),
         workspace => 'other', scopes => 'a', cache => 'MISS');
    vars('GET /v1', $keys{poor}, status => 'insufficient_scope',
         id => key_id($keys{poor}), workspace => 'acme', name => 'poor',
         scopes => 'b', cache => 'MISS');

    # Any other speaks for nobody.
    for my $label (qw(revoked expired unknown)) {
        vars('GET /v1', $keys{$label}, status => $label, code => 401,
             id => key_id($keys{$label}), cache => 'MISS');
    }

    vars('GET /v1', $keys{off}, status => 'workspace_disabled',
         id => key_id($keys{off}), cache => 'MISS');
    vars('GET /v1', key_for('one', secret => key_secret($keys{never})),
         status => 'unknown', id => key_id($keys{one}), cache => 'MISS');
}


sub no_id {
    vars('GET /v1', '', status => 'missing', code => 401);
    vars("GET /query?key=$keys{one}&key=$keys{one}", '',
         status => 'ambiguous', code => 400);

    vars('GET /v1', $_, status => 'malformed', code => 401)
        for 'x', substr($keys{one}, 0, -1), "$keys{one}0",
            key_without_check($keys{one}) . '000000',
            key_for('one', prefix => 'test');
}


sub undecided {
    my @id = (id => key_id($keys{one}), code => 200, status => '');

    vars('GET /open', $keys{one}, @id);
    vars("GET /open_query?key=$keys{one}", '', @id);
    vars('GET /open', $keys{unknown}, code => 200, status => '',
         id => key_id($keys{unknown}));
    vars('GET /open', '', code => 200, status => '');
    vars('GET /open', 'x', code => 200, status => '');
    vars("GET /open?key=$keys{one}", '', code => 200, status => '');
    vars("GET /open_query?key=$keys{one}&key=$keys{one}", '',
         code => 200, status => '');
}


# --- $agntkey_expires

sub expires {
    for my $ms (4102444800000, 4102444800001, 4102444800999,
                4102444799000, 3981312000000, 3981311999999,
                253402300799999, 32503680000000)
    {
        my $key = seed_key("expires $ms", scopes => 'a',
                           expires_at => $ms);
        my $want = POSIX::strftime('%Y-%m-%dT%H:%M:%S',
                                   gmtime int $ms / 1000)
                   . sprintf '.%03dZ', $ms % 1000;
        my $res = http('GET /v1', headers => bearer($key));

        is($res->{headers}{'x-expires'}, "<$want>",
           "\$agntkey_expires of $ms");
        like($want, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'RFC 3339');
    }
}


# --- limit_req: each key by itself, before anyone is asked about it

sub limited {
    my ($path, @code) = @_;
    my $before = redis_commands_count();
    my @labels = qw(one never unknown);

    for my $label (@labels) {
        my $first = http("GET $path", headers => bearer($keys{$label}));
        my $second = http("GET $path", headers => bearer($keys{$label}));

        is($first->{code}, $code[$label eq 'unknown'],
           "$path - the first request of $label");
        is($second->{code}, 429, "$path - the second request of $label");
    }

    my $asked = redis_commands_count('hmget');

    is(http("GET $path", headers => bearer($keys{one}))->{code}, 429,
       "$path - the third");
    is(redis_commands_count('hmget'), $asked,
       "$path - what is limited is not looked up");

    # Without an id there is no limit.
    for my $headers ('', bearer('x')) {
        is(http("GET $path", headers => $headers)->{code}, $code[1],
           "$path - no id, no limit") for 1 .. 3;
    }
}


watch_logs(strip => qr/"GET \/\w+\?[^"]*"/);
run_tests();
logs_clean();

__DATA__

=== after a decision the variables tell of it
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::decided();
--- request
GET /v1
--- more_headers eval
bearer(key_for('never'))
--- response_body
hello
--- response_headers
X-Class: <good>
--- error_log
agntkey: key refused: revoked



=== what is no key has no id
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::no_id();
--- request
GET /v1
--- error_code: 401
--- response_headers
X-Id: <>
X-Class: <bad>
--- error_log
agntkey: key refused: missing



=== without a decision there is the id and nothing else
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::undecided();
--- request
GET /open
--- response_headers
X-Class: <none>
--- no_error_log
agntkey: key



=== the module need not be on anywhere for an id
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers
--- request
GET /open
--- more_headers eval
bearer(key_for('one'))
--- response_headers eval
'X-Id: <' . key_id(key_for('one')) . '>
X-Status: <>
X-Class: <none>
'
--- no_error_log
agntkey: key



=== $agntkey_expires is in UTC with milliseconds
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::expires();
--- request
GET /v1
--- more_headers eval
bearer(key_for('expires 253402300799999'))
--- response_headers
X-Expires: <9999-12-31T23:59:59.999Z>
--- no_error_log
agntkey: key



=== an unavailable store leaves the id
--- http_config eval: $::away
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('one'))
--- error_code: 503
--- response_headers eval
'X-Id: <' . key_id(key_for('one')) . '>
X-Status: <store_unavailable>
X-Workspace: <>
X-Name: <>
X-Scopes: <>
X-Expires: <>
'
--- error_log eval
qr/\[error\] .*agntkey/



=== limit_req counts each key by itself
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::limited('/limited', 200, 401);
--- request
GET /v1
--- more_headers eval
bearer(key_for('never'))
--- response_body
hello
--- error_log
limiting requests



=== limit_req counts keys where none is asked for
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::limited('/open_limited', 200, 200);
--- request
GET /v1
--- more_headers eval
bearer(key_for('never'))
--- response_body
hello
--- error_log
limiting requests



=== the access log has them all after a 200
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- access_log eval
my $id = key_id(key_for('one'));
my $line = "<ok><$id><acme>"
    . q{<Ann's \x22first\x22 key \x5C \xC3\xA9><a b:c/d>}
    . '<2100-01-01T00:00:00.000Z><MISS>';
qr/^\Q$line\E$/
--- no_error_log
agntkey: key



=== the access log has the reason and the id after a refusal
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('revoked'))
--- error_code: 401
--- access_log eval
my $id = key_id(key_for('revoked'));
qr/^<revoked><$id><-><-><-><-><MISS>$/
--- error_log
agntkey: key refused: revoked



=== the access log of a request without a key
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- error_code: 401
--- access_log eval
qr/^<missing><><-><-><-><-><->$/
--- error_log
agntkey: key refused: missing



=== an application is told whose key it was, and not the key
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /app
--- more_headers eval
bearer(key_for('never'))
--- response_body eval
'acme ' . key_id(key_for('never')) . ' n []'
--- no_error_log
agntkey: key



=== a map that is read before the decision has to be volatile
--- http_config eval: $::maps
--- user_files eval: $::user_files
--- config
    root html;
    location /v1 {
        agntkey on;
        set $early "$pool $kept";
        add_header X-Early "$early" always;
        add_header X-Late "$pool $kept" always;
    }
--- request
GET /v1
--- more_headers eval
bearer(key_for('one'))
--- response_headers
X-Early: none none
X-Late: first none
--- no_error_log
agntkey: key



=== a map that is read after the decision only needs nothing
--- http_config eval: $::maps
--- user_files eval: $::user_files
--- config
    root html;
    location /v1 {
        agntkey on;
        add_header X-Late "$pool $kept" always;
    }
--- request
GET /v1
--- more_headers eval
bearer(key_for('one'))
--- response_headers
X-Late: first first
--- no_error_log
agntkey: key
