# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# A key beside allow and deny, auth_basic and auth_request, with "satisfy"
# all and any: every combination, against a model of nginx's own rules.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();

my $one = seed_key('one', scopes => 'a');
my $poor = seed_key('poor');
my $other = seed_key('other', workspace => 'other', scopes => 'a');

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
_EOC_

our $away = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_CLOSED_PORT; agntkey_cache off;
_EOC_

# What a module says of a request: a status, and a challenge of its own.

my %access = ('' => undef, allow => [200], deny => [403]);

my %keys = (
    good      => [200, undef, $one],
    missing   => [401, 'Bearer realm="agntkey"'],
    malformed => [401, 'Bearer realm="agntkey", error="invalid_token"', 'x'],
    unknown   => [401, 'Bearer realm="agntkey", error="invalid_token"',
                  key_for('never')],
    poor      => [403, 'Bearer realm="agntkey",'
                       . ' error="insufficient_scope", scope="a"', $poor],
    other     => [403, undef, $other],
    ambiguous => [400, 'Bearer realm="agntkey", error="invalid_request"',
                  $one, $one],
);

my %basic = (
    ''    => undef,
    right => [200, undef, 'dXNlcjpwYXNz'],
    wrong => [401, 'Basic realm="users"', 'dXNlcjpmYWls'],
    none  => [401, 'Basic realm="users"'],
);

my %request = (
    ''  => undef,
    204 => [200],
    401 => [401, 'Form realm="other"'],
    403 => [403],
    500 => [500],
);

our $config = <<'_EOC_';
        root html;
        auth_basic_user_file $TEST_NGINX_SERVROOT/html/users;
        agntkey_token $http_x_api_key;
        agntkey_scope a;
        agntkey_workspace acme;
        add_header X-Status $agntkey_status always;

        location /says/ {
            internal;
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/said/;
            proxy_pass_request_body off;
        }

        location /said/204 { return 204; }
        location /said/403 { return 403; }
        location /said/500 { return 500; }
        location /said/401 {
            add_header WWW-Authenticate 'Form realm="other"' always;
            return 401;
        }

        location /plain { agntkey on; }

        location /any_plain {
            satisfy any;
            agntkey on;
        }

        location /any_off {
            satisfy any;
            agntkey off;
            location /any_off/deny { deny all; }
            location /any_off/basic { auth_basic users; }
            location /any_off/request { auth_request /says/403; }
        }

        location /delay {
            agntkey on;
            auth_delay 300ms;
        }

        location /any_delay {
            satisfy any;
            agntkey on;
            auth_basic users;
            auth_delay 300ms;
        }
_EOC_

our $user_files = join('', map { ">>> $_\nhello\n" }
                       qw(plain any_plain delay any_delay any_off/deny
                          any_off/basic any_off/request))
                  . ">>> users\nuser:{PLAIN}pass\n";

sub path {
    my ($satisfy, $access, $basic, $request) = @_;
    return join '.', $satisfy, $access || '-', $basic eq '' ? '-' : 'basic',
                     $request || '-';
}

for my $satisfy (qw(any all)) {
    for my $access (sort keys %access) {
        for my $basic ('', 'right') {
            for my $request (sort keys %request) {
                my $path = path($satisfy, $access, $basic, $request);

                $config .= "        location = /$path {\n"
                         . "            satisfy $satisfy;\n"
                         . "            agntkey on;\n"
                         . ($access && "            $access all;\n")
                         . ($basic && "            auth_basic users;\n")
                         . ($request
                            && "            auth_request /says/$request;\n")
                         . "        }\n";
                $user_files .= ">>> $path\nhello\n";
            }
        }
    }
}


# The modules of nginx in the order in which they are asked, ours second.
# Returns the status, whose word it is, and the challenges.

sub model {
    my ($satisfy, $access, $key, $basic, $request) = @_;
    my @steps = grep { defined $_->[1] }
        [access => $access{$access}], [key => $keys{$key}],
        [basic => $basic{$basic}], [request => $request{$request}];

    my ($code, @refused) = 0;
    my $asked = 0;

    for my $step (@steps) {
        my ($who, $says) = @$step;
        my ($status) = @$says;

        $asked = 1 if $who eq 'key';
        push @refused, $step if $status != 200;

        if ($satisfy eq 'all') {
            return { code => $status, refused => [$step], asked => $asked }
                if $status != 200;
            next;
        }

        return { code => 200, refused => [], asked => $asked }
            if $status == 200;

        if ($status != 401 && $status != 403) {
            return { code => $status, refused => \@refused,
                     asked => $asked };
        }

        $code = $status if $code != 401;
    }

    return { code => $code || 200, refused => \@refused, asked => $asked };
}


sub combined {
    my ($satisfy, $access, $key, $basic, $request) = @_;
    my $want = model(@_);
    my $path = path($satisfy, $access, $basic, $request);
    my $title = "$path, key $key" . ($basic && ", password $basic");

    my (undef, undef, @values) = @{ $keys{$key} };
    my @headers = map { "X-API-Key: $_" } @values;
    my $password = $basic && $basic{$basic}[2];

    push @headers, "Authorization: Basic $password" if $password;

    my $before = redis_commands_count();
    my $res = http("GET /$path", headers => \@headers);
    my $h = $res->{headers};
    my $commands = redis_commands_count() - $before;

    is($res->{code}, $want->{code}, $title)
        or return diag($res->{raw});

    my ($ours) = grep { $_->[0] eq 'key' } @{ $want->{refused} };

    # A challenge of ours goes with the status it is about.
    my @challenges = grep { defined }
        map { $_->[0] eq 'key' && $_->[1][0] != $want->{code}
              ? undef : $_->[1][1] } @{ $want->{refused} };

    is($h->{'www-authenticate'} // '', join(', ', @challenges),
       "$title - challenges");

    is($h->{'cache-control'} // '', $ours ? 'no-store' : '',
       "$title - Cache-Control");

    my $body_is_ours = $ours && $ours->[1][0] == $want->{code};

    is($h->{'content-type'}, $want->{code} == 200 ? 'text/plain'
       : $body_is_ours ? 'application/problem+json' : 'text/html',
       "$title - Content-Type");

    is($res->{body}, "hello\n", "$title - body") if $want->{code} == 200;

    my $asks = $want->{asked} && $key =~ /^(?:good|unknown|poor|other)$/;

    is($commands > 0 ? 'asked' : 'not asked', $asks ? 'asked' : 'not asked',
       "$title - Redis");

    is($h->{'x-status'} // '', !$want->{asked} ? '' : $key eq 'good' ? 'ok'
       : $key eq 'poor' ? 'insufficient_scope'
       : $key eq 'other' ? 'workspace_mismatch' : $key,
       "$title - \$agntkey_status");
}


sub every {
    my ($satisfy, @basic) = @_;

    for my $access (sort keys %access) {
        for my $key (sort keys %keys) {
            for my $basic (@basic) {
                for my $request (sort keys %request) {
                    combined($satisfy, $access, $key, $basic, $request);
                }
            }
        }
    }
}


# --- Redis away

sub away {
    my ($path, $headers, $code, $type) = @_;
    my $res = http("GET /$path", headers => $headers);
    my $h = $res->{headers};
    my $ours = $code == 503;

    is($res->{code}, $code, "$path - code") or return diag($res->{raw});
    is($h->{'retry-after'} // '', $ours ? 1 : '', "$path - Retry-After");
    is($h->{'cache-control'} // '',
       $ours || $code == 401 ? 'no-store' : '', "$path - Cache-Control");
    is($h->{'content-type'}, $type, "$path - Content-Type");

    ok(!exists $h->{'www-authenticate'}, "$path - no challenge")
        if $code != 401;
}


sub all_away {
    my $key = "X-API-Key: $one";
    my $password = 'Authorization: Basic dXNlcjpwYXNz';
    my $problem = 'application/problem+json';

    away('plain', $key, 503, $problem);
    away('any_plain', $key, 503, $problem);
    away('plain', '', 401, $problem);

    # Whom another module lets in before us does not depend on Redis; one
    # that comes after us is not asked.
    away('any.allow.-.-', $key, 200, 'text/plain');
    away('any.deny.-.-', $key, 503, $problem);
    away('any.-.basic.-', [$key, $password], 503, $problem);
    away('any.-.basic.-', $password, 200, 'text/plain');
    away('any.-.-.204', $key, 503, $problem);
    away('any.deny.basic.204', [$key, $password], 503, $problem);

    away('all.allow.-.-', $key, 503, $problem);
    away('all.deny.-.-', $key, 403, 'text/html');
    away('all.-.basic.-', [$key, $password], 503, $problem);
    away('all.-.basic.-', $key, 503, $problem);
    away('all.-.-.403', $key, 503, $problem);
    away('all.allow.basic.204', [$key, $password], 503, $problem);
}


# --- auth_delay: nginx holds back a 401, and nothing else

sub delay {
    my @rows = (
        ['/delay', '', '401 missing', 1],
        ['/delay', 'X-API-Key: x', '401 malformed', 1],
        ['/delay', 'X-API-Key: ' . key_for('never'), '401 unknown', 1],
        ['/delay', "X-API-Key: $poor", '403 insufficient_scope', 0],
        ['/delay', "X-API-Key: $one", '200 ok', 0],
        ['/any_delay', '', '401 missing', 1],
        ['/any_delay', "X-API-Key: $one", '200 ok', 0],
        ['/any_delay', 'Authorization: Basic dXNlcjpwYXNz',
         '200 missing', 0],
    );

    for my $row (@rows) {
        my ($path, $headers, $want, $late) = @$row;
        my $res = http("GET $path", headers => $headers);
        my $h = $res->{headers};
        my $refused = $res->{code} != 200;

        is("$res->{code} $h->{'x-status'}", $want, "$path - $want");
        is($res->{time} >= 0.29 ? 'late' : 'at once',
           $late ? 'late' : 'at once', "$path - $want - when");
        is($h->{'cache-control'} // '', $refused ? 'no-store' : '',
           "$path - $want - Cache-Control");
        is($h->{'content-type'}, $refused ? 'application/problem+json'
           : 'text/plain', "$path - $want - Content-Type");
    }

    # One that does not wait for the end of it.
    my $conn = http_start('GET /delay');

    is($conn->started(0.05), '', 'a 401 is held back');
    $conn->leave;
    is(http('GET /delay', headers => "X-API-Key: $one")->{code}, 200,
       'and nobody else waits');
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== satisfy all: the first that refuses has the last word
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::every('all', '');
--- request
GET /all.deny.-.-
--- more_headers eval
'X-API-Key: ' . key_for('one')
--- error_code: 403
--- error_log
access forbidden by rule
agntkey: key refused: missing
agntkey: key refused: insufficient_scope



=== satisfy all, with a password
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::every('all', 'right', 'wrong', 'none');
--- request
GET /all.-.basic.-
--- more_headers eval
'X-API-Key: ' . key_for('one')
--- error_code: 401
--- response_headers
WWW-Authenticate: Basic realm="users"
!Cache-Control
--- error_log
agntkey: key refused: missing



=== satisfy any: one that allows is enough, and takes back our refusal
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::every('any', '');
--- request
GET /any.-.-.204
--- response_body
hello
--- response_headers
!WWW-Authenticate
!Cache-Control
X-Status: missing
--- error_log
agntkey: key refused: missing



=== satisfy any, with a password: both challenges where both refuse
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::every('any', 'right', 'wrong', 'none');
--- request
GET /any.-.basic.-
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer realm="agntkey", Basic realm="users"
Cache-Control: no-store
Content-Type: application/problem+json
--- error_log
agntkey: key refused: missing



=== satisfy any: what is switched off has no say
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request eval
[map { "GET /any_off/$_" } qw(deny basic request)]
--- more_headers eval
'X-API-Key: ' . key_for('one')
--- error_code eval
[403, 401, 403]
--- response_headers eval
["!WWW-Authenticate\nX-Status:", 'WWW-Authenticate: Basic realm="users"',
 "!WWW-Authenticate\nX-Status:"]
--- no_error_log eval
qr/agntkey: key/



=== a store that is away stops with 503, whatever would come after us
--- http_config eval: $::away
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::all_away();
--- request
GET /any_plain
--- more_headers eval
'X-API-Key: ' . key_for('one')
--- error_code: 503
--- response_headers
Retry-After: 1
!WWW-Authenticate
Cache-Control: no-store
X-Status: store_unavailable
--- error_log eval
qr/\[error\] .*agntkey/



=== auth_delay holds back a 401 and nothing else
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::delay();
--- request
GET /delay
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer realm="agntkey"
Cache-Control: no-store
Content-Type: application/problem+json
--- error_log
agntkey: key refused: missing
