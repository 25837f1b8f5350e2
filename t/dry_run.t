# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# agntkey_dry_run: everything is decided and logged, and nothing refused.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();

my $one = seed_key('one', scopes => 'a');

seed_key('revoked', active => undef);
seed_key('expired', expires_at => 1700000001000);
seed_key('off', workspace => 'shut');
seed_workspace('shut', active => undef);
seed_key('other', workspace => 'other', scopes => 'a');
seed_key('poor');

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
_EOC_

our $config = <<'_EOC_';
        root html;
        agntkey_workspace acme shut;
        agntkey_scope a;
        add_header X-Status $agntkey_status always;
        add_header X-Id $agntkey_id always;

        location /v1 {
            agntkey on;
            agntkey_dry_run on;
        }

        location /query {
            agntkey on;
            agntkey_dry_run on;
            agntkey_token $arg_key;
        }

        location /strict {
            agntkey on;
        }

        location /outer {
            agntkey on;
            agntkey_dry_run on;
            location /outer/inner { }
            location /outer/strict { agntkey_dry_run off; }
        }

        location /off {
            agntkey off;
            agntkey_dry_run on;
        }

        auth_basic_user_file $TEST_NGINX_SERVROOT/html/users;

        location /any {
            satisfy any;
            agntkey on;
            agntkey_dry_run on;
            location /any/nothing { }
            location /any/allow { allow all; }
            location /any/deny { deny all; }
            location /any/basic { auth_basic users; }
            location /any/allow_basic { allow all; auth_basic users; }
            location /any/deny_basic { deny all; auth_basic users; }
        }

        location /all {
            agntkey on;
            agntkey_dry_run on;
            location /all/nothing { }
            location /all/allow { allow all; }
            location /all/deny { deny all; }
            location /all/basic { auth_basic users; }
            location /all/allow_basic { allow all; auth_basic users; }
            location /all/deny_basic { deny all; auth_basic users; }
        }
_EOC_

# What nginx does without us: each location once more, switched off.

sub twin {
    my ($outer) = $config =~ m{(        location /$_[0] \{.*?\n        \}\n)}s;

    $outer =~ s{location /(\w+)}{location /without/$1}g;
    $outer =~ s/agntkey_dry_run on;//;
    $outer =~ s/agntkey on;/agntkey off;/;
    return $outer;
}

$config .= twin('any') . twin('all');

my @combined = map { my $outer = $_;
                     map { "$outer/$_" } qw(nothing allow deny basic
                                            allow_basic deny_basic) }
                   qw(any all);

our $user_files = join('', map { ">>> $_\nhello\n" }
    qw(v1 query strict off outer/inner outer/strict), @combined,
    map { "without/$_" } @combined)
    . ">>> users\nuser:{PLAIN}pass\n";


sub log_tail {
    my $file = server_root() . '/logs/error.log';

    open my $in, '<', $file or die "$file: $!\n";
    seek $in, $_[0] // 0, 0;

    my @lines = <$in>;
    return ([grep { /\[info\].* agntkey: key/ } @lines], tell $in);
}


my @reasons = (
    [ok => $one],
    [missing => ''],
    [malformed => 'x'],
    [unknown => key_for('never')],
    [revoked => key_for('revoked')],
    [expired => key_for('expired')],
    [workspace_disabled => key_for('off', workspace => 'shut')],
    [workspace_mismatch => key_for('other', workspace => 'other')],
    [insufficient_scope => key_for('poor')],
);


sub passes {
    my ($path, $headers, $reason, $id) = @_;
    my (undef, $pos) = log_tail();
    my $res = http("GET $path", headers => $headers);
    my $h = $res->{headers};

    is("$res->{code} $h->{'x-status'}", "200 $reason",
       "$reason goes through")
        or diag($res->{raw});

    is($res->{body}, "hello\n", "$reason - the body is the location's");
    is($h->{'content-type'}, 'text/plain', "$reason - its type too");
    ok(!exists $h->{$_}, "$reason - no $_")
        for qw(www-authenticate cache-control retry-after);

    my ($lines) = log_tail($pos);

    is(scalar @$lines, $reason eq 'ok' ? 0 : 1, "$reason - lines of log")
        or return diag(@$lines);
    return if $reason eq 'ok';

    like($lines->[0], qr/agntkey: key would be refused: $reason, /,
         "$reason - the line");
    is($h->{'x-id'} // '', $id, "$reason - \$agntkey_id");
    like($lines->[0], qr/, id: $id, client/, "$reason - id in the line")
        if $id ne '';
}


sub every_reason {
    for my $row (@reasons) {
        my ($reason, $key) = @$row;

        passes('/v1', $key eq '' ? '' : bearer($key), $reason,
               length $key > 1 ? key_id($key) : '');
    }

    passes("/query?key=$one&key=$one", '', 'ambiguous', '');
}


sub strict {
    for my $path ('/strict', '/outer/strict') {
        for my $row (@reasons) {
            my ($reason, $key) = @$row;
            my $res = http("GET $path",
                           headers => $key eq '' ? '' : bearer($key));
            my $refused = $res->{code} != 200;

            is($refused ? 'refused' : 'allowed',
               $reason eq 'ok' ? 'allowed' : 'refused',
               "$path - $reason without a dry run");
        }
    }
}


# With whatever key, and with whatever nginx's own modules say.

sub unchanged {
    for my $path (@combined) {
        for my $password ('', 'pass', 'wrong') {
            for my $key ($one, key_for('never'), 'x') {
                my $basic = $password eq '' ? '' :
                    'Authorization: Basic ' . ($password eq 'pass'
                    ? 'dXNlcjpwYXNz' : 'dXNlcjpmYWls');
                my %seen;

                for my $root ('', '/without') {
                    my $res = http("GET $root/$path",
                                   headers => $basic || bearer($key));
                    my $h = $res->{headers};

                    $seen{$root} = join ' ', $res->{code},
                        $h->{'www-authenticate'} // '-',
                        $h->{'cache-control'} // '-', $h->{'content-type'};
                }

                is($seen{''}, $seen{'/without'},
                   "$path is as without agntkey: password \"$password\"");
            }
        }
    }
}


watch_logs(strip => qr/"GET \/query\?[^"]*"/);
run_tests();
logs_clean();

__DATA__

=== every reason goes through, and its line says what would be
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::every_reason();
--- request
GET /v1
--- response_body
hello
--- response_headers
X-Status: missing
!WWW-Authenticate
!Cache-Control
--- error_log
agntkey: key would be refused: missing
--- no_error_log
agntkey: key refused



=== a store that is away lets everything through
--- http_config
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_CLOSED_PORT; agntkey_cache off;
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /v1
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- response_headers
X-Status: store_unavailable
!WWW-Authenticate
!Cache-Control
!Retry-After
--- no_error_log
agntkey: key refused
agntkey: key would be refused



=== a dry run is inherited, and ended in an inner location
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::strict();
--- request
GET /outer/inner
--- response_body
hello
--- response_headers
X-Status: missing
--- error_log
agntkey: key refused: missing
agntkey: key would be refused: missing



=== a dry run of what is switched off decides nothing
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request
GET /off
--- more_headers eval
bearer(key_for('never'))
--- response_body
hello
--- response_headers
X-Status:
--- no_error_log
agntkey: key



=== a dry run changes nothing of what other modules decide
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::unchanged();
--- request
GET /any/deny
--- more_headers eval
bearer(key_for('one'))
--- error_code: 403
--- response_headers
X-Status: ok
!WWW-Authenticate
!Cache-Control
--- error_log
access forbidden by rule
--- no_error_log
agntkey: key refused
