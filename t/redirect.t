# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Error pages, internal redirects, subrequests, nested locations: each
# location decides once, a refusal has one set of headers, and the
# variables outlive the way.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();

my $one = seed_key('one', scopes => 'a');
my $other = seed_key('other', workspace => 'other');

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
_EOC_

our $headers = <<'_EOC_';
        add_header X-Status $agntkey_status always;
        add_header X-Id $agntkey_id always;
        add_header X-Name $agntkey_name always;
        root html;

        location /up/ { return 200 "up $request_method\n"; }

        location = /up/accel {
            add_header X-Accel-Redirect $arg_accel;
            return 200 "up $request_method\n";
        }
_EOC_

our $pages = <<'_EOC_';
        location = /page.html { }

        location /static {
            agntkey on;
            agntkey_workspace acme;
            error_page 401 403 /page.html;
        }

        location /as200 {
            agntkey on;
            error_page 401 =200 /page.html;
        }

        location /as404 {
            agntkey on;
            error_page 401 =404 /page.html;
        }

        location /named {
            agntkey on;
            error_page 401 @named;
        }

        location @named { return 401 "named\n"; }

        location /login {
            agntkey on;
            error_page 401 = @login;
        }

        location @login { return 302 /form; }

        location /url {
            agntkey on;
            error_page 401 https://example.org/login;
        }

        location /guarded {
            agntkey on;
            error_page 401 /guarded/page.html;
        }

        location /guarded_named {
            agntkey on;
            error_page 401 @guarded;
        }

        location @guarded {
            agntkey on;
            root html;
            try_files /hello =404;
        }

        location /other_realm {
            agntkey on;
            error_page 401 /other_realm_page;
        }

        location /other_realm_page {
            agntkey on;
            agntkey_realm other;
        }

        location /app {
            agntkey on;
            error_page 401 = /up/x;
        }

        location /lost {
            agntkey on;
            error_page 404 /guarded/page.html;
        }
_EOC_

our $ways = <<'_EOC_';
        location /open { }

        location /v1 { agntkey on; }

        location /strict {
            agntkey on;
            agntkey_workspace other;
        }

        location /to_v1 { rewrite ^ /v1 last; }

        location /from_v1 {
            agntkey on;
            rewrite ^ /open last;
        }

        location /break {
            agntkey on;
            rewrite ^ /v1 break;
        }

        location /try_open {
            agntkey on;
            try_files /none /open;
        }

        location /try_v1 {
            agntkey on;
            try_files /none /v1;
        }

        location /try_strict {
            agntkey on;
            try_files /none /strict;
        }

        location /try_named {
            agntkey on;
            try_files /none @fallback;
        }

        location @fallback { try_files /hello =404; }

        location /open_try_v1 { try_files /none /v1; }

        location /dir/ {
            agntkey on;
            index index.html;
        }

        location /accel {
            agntkey on;
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/up/accel;
        }

        location /open_accel {
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/up/accel;
        }

        location /internal { internal; }

        location /internal_v1 {
            internal;
            agntkey on;
        }

        location /internal_strict {
            internal;
            agntkey on;
            agntkey_workspace other;
        }
_EOC_

our $subrequests = <<'_EOC_';
        location /v1 { agntkey on; }
        location /denied { deny all; }

        location /ssi {
            ssi on;
            ssi_types text/plain;
        }

        location /guarded_ssi {
            agntkey on;
            ssi on;
            ssi_types text/plain;
        }

        location /mirrored {
            agntkey on;
            mirror /mirror;
        }

        location /mirror {
            internal;
            access_log off;
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/up/mirror;
        }

        location = /up/mirror {
            access_log logs/mirror.log;
            return 204;
        }

        location = /up/other {
            access_log logs/mirror.log;
            return 204;
        }
_EOC_

our $nested = <<'_EOC_';
        agntkey on;

        location /on { }
        location /alone { agntkey off; }

        location /off/on { agntkey on; }

        location /outer {
            location /outer/inner { }
            location /outer/off {
                agntkey off;
                location /outer/off/inner { }
                location /outer/off/on { agntkey on; }
            }
        }

        location ~ ^/regex/(.*)$ { alias html/hello; }

        location /if {
            if ($arg_off) { expires 1h; }
        }

        location /write {
            agntkey off;
            limit_except GET { agntkey on; }
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/up/write;
        }

        location /read {
            limit_except POST { agntkey off; }
            proxy_pass http://127.0.0.1:$TEST_NGINX_PORT/up/read;
        }

        location /return { return 200 "returned\n"; }

        location = /up/write { agntkey off; return 200 "$request_method\n"; }
        location = /up/read { agntkey off; return 200 "$request_method\n"; }
_EOC_

our $user_files = ">>> page.html\npage\n"
    . ">>> guarded/page.html\nguarded page\n"
    . ">>> dir/index.html\nindex\n"
    . ">>> ssi\n<!--# include virtual=\"/v1\" -->"
    . "<!--# include virtual=\"/denied\" -->"
    . "<!--# echo var=\"agntkey_status\" default=\"none\" -->\n"
    . ">>> guarded_ssi\n<!--# include virtual=\"/v1\" -->"
    . "<!--# echo var=\"agntkey_status\" -->"
    . " <!--# echo var=\"agntkey_name\" -->\n"
    . join '', map { ">>> $_\nhello\n" }
      qw(hello static as200 as404 named login url guarded_named other_realm
         other_realm_page app open v1 strict internal internal_v1
         internal_strict denied mirrored on alone off/on outer/inner
         outer/off/inner outer/off/on if);


my ($log_file, $log_pos) = ('', 0);

sub refusals {
    my $file = server_root() . '/logs/error.log';

    open my $in, '<', $file or die "$file: $!\n";

    my $inode = (stat $in)[1];

    $log_pos = 0 if $log_file ne $inode || -s $in < $log_pos;
    $log_file = $inode;

    seek $in, $log_pos, 0;
    my @reasons = map { /\[info\].* agntkey: key refused: (\w+)/ ? $1 : () }
                  <$in>;
    $log_pos = tell $in;

    return "@reasons";
}


# see('GET /path', key, code, what else): "body", "type", "challenge",
# "store" (Cache-Control), "log" (reasons), "status" (the variable), other
# headers.  What is not named is not there, or is that of /hello.

my $bare = 'Bearer realm="agntkey"';
my $json = 'application/problem+json';

sub see {
    my ($line, $key, $code, %want) = @_;
    my $title = "$line " . ($key ? 'with' : 'without') . ' a key';

    refusals();

    my $res = http($line, headers => $key ? bearer($key) : '');
    my $h = $res->{headers};

    is($res->{code}, $code, $title) or return diag($res->{raw});

    is($h->{'www-authenticate'} // '', delete $want{challenge} // '',
       "$title - challenge");
    is($h->{'cache-control'} // '', delete $want{store} // '',
       "$title - Cache-Control");
    is(refusals(), delete $want{log} // '', "$title - log");
    is($h->{'x-status'} // '', delete $want{status} // ($key ? 'ok' : ''),
       "$title - \$agntkey_status");

    my $body = delete $want{body} // "hello\n";

    ref $body ? like($res->{body}, $body, "$title - body")
              : is($res->{body}, $body, "$title - body");

    is($h->{$_} // '', $want{$_}, "$title - $_") for sort keys %want;
}


my @missing = (store => 'no-store', log => 'missing', status => 'missing');
my @ours = ('content-type' => $json, body => qr/^\{.*"code":"missing"/);
my @refused = (challenge => $bare, @missing, @ours);


sub error_pages {
    see('GET /static', '', 401, challenge => $bare, @missing,
        'content-type' => 'text/html', body => "page\n");
    see('GET /static', $other, 403, store => 'no-store',
        log => 'workspace_mismatch', status => 'workspace_mismatch',
        body => "page\n");
    see('GET /as404', '', 404, @missing, body => "page\n");
    see('GET /named', '', 401, challenge => $bare, @missing,
        body => "named\n");

    # A challenge goes with its status; that a refusal is not to be stored
    # holds whatever page it has.
    see('GET /as200', '', 200, @missing, 'content-type' => 'text/html',
        body => "page\n");
    see('GET /login', '', 302, @missing, body => qr/302 Found/,
        location => "http://localhost:$ENV{TEST_NGINX_PORT}/form");
    see('GET /url', '', 302, @missing, body => qr/302 Found/,
        'content-type' => 'text/html',
        location => 'https://example.org/login');
    see('GET /app', '', 200, @missing, body => "up GET\n");

    see("GET /$_", $one, 200, 'x-id' => key_id($one))
        for qw(static as200 as404 named login url app);
}


# A page that is guarded itself is refused too; nginx ends it there.

sub guarded_pages {
    my @twice = (store => 'no-store', log => 'missing missing',
                 status => 'missing', @ours);

    see('GET /guarded', '', 401, challenge => $bare, @twice);
    see('GET /guarded_named', '', 401, challenge => $bare, @twice);
    see('GET /other_realm', '', 401, @twice,
        challenge => 'Bearer realm="other"');
    see('GET /guarded/page.html', $one, 200, body => "guarded page\n");
    see('GET /guarded_named', $one, 200);

    see('GET /lost', $one, 404, body => "guarded page\n");
    see('GET /lost', '', 401, @refused);
}


# --- internal redirects

sub rewrites {
    see('GET /to_v1', '', 401, @refused);
    see('GET /to_v1', $one, 200, 'x-name' => 'a key');

    # The location that a rewrite leaves was never asked.
    see('GET /from_v1', '', 200);
    see('GET /break', '', 401, @refused);
    see('GET /break', $one, 200);
}


# How many look-ups a request costs.

sub lookups {
    my ($line, $n) = @_;

    # The first asks for the workspace too.
    http($line, headers => bearer($one));

    my $before = redis_commands_count('hmget');

    http($line, headers => bearer($one));
    is(redis_commands_count('hmget') - $before, $n,
       "$line decides " . ($n == 1 ? 'once' : "$n times"));
}


sub try_files {
    see('GET /try_open', '', 401, @refused);
    see('GET /try_open', $one, 200, 'x-name' => 'a key',
        'x-id' => key_id($one));
    see('GET /try_v1', '', 401, @refused);
    see('GET /try_v1', $one, 200, 'x-name' => 'a key');
    see('GET /try_strict', $one, 403, store => 'no-store',
        log => 'workspace_mismatch', status => 'workspace_mismatch',
        'content-type' => $json, body => qr/"workspace_mismatch"/);
    see('GET /try_strict', $other, 200, 'x-id' => key_id($other));
    see('GET /try_named', '', 401, @refused);
    see('GET /try_named', $one, 200, 'x-name' => 'a key');
    see('GET /open_try_v1', '', 401, @refused);
    see('GET /open_try_v1', $one, 200, 'x-name' => 'a key');

    see('GET /dir/', '', 401, @refused);
    see('GET /dir/', $one, 200, body => "index\n", 'x-name' => 'a key');

    lookups('GET /v1', 1);
    lookups('GET /to_v1', 1);
    lookups('GET /try_open', 1);
    lookups('GET /try_named', 1);
    lookups('GET /try_v1', 2);
    lookups('GET /open_try_v1', 1);
    lookups('GET /dir/', 2);
}


sub accel {
    see('GET /accel', '', 401, @refused);
    see('GET /accel?accel=/internal', '', 401, @refused);
    see('GET /accel?accel=/internal', $one, 200, 'x-name' => 'a key',
        'x-id' => key_id($one));
    see('GET /accel?accel=/internal_v1', $one, 200, 'x-name' => 'a key');
    see('GET /accel?accel=/internal_strict', $other, 200);
    see('GET /accel?accel=/internal_strict', $one, 403,
        store => 'no-store', log => 'workspace_mismatch',
        status => 'workspace_mismatch', 'content-type' => $json,
        body => qr/"workspace_mismatch"/);

    see('GET /open_accel?accel=/internal', '', 200);
    see('GET /open_accel?accel=/internal_v1', '', 401, @refused);
    see('GET /open_accel?accel=/internal_v1', $one, 200,
        'x-name' => 'a key');

    lookups('GET /accel?accel=/internal', 1);
    lookups('GET /accel?accel=/internal_v1', 2);
}


# --- subrequests: nginx asks no access module about them

sub ssi {
    my $before = redis_commands_count('hmget');

    see('GET /ssi', '', 200, body => "hello\nhello\nnone\n");
    see('GET /ssi', $one, 200, status => '',
        body => "hello\nhello\nnone\n");
    is(redis_commands_count('hmget'), $before,
       'an included location asks nothing');

    see('GET /guarded_ssi', '', 401, @refused);
    see('GET /guarded_ssi', $one, 200, body => "hello\nok a key\n");

    lookups('GET /guarded_ssi', 1);
}


# Requests that came to the mirror, up to one that is made afterwards.

sub mirror {
    my $seen = sub {
        my $file = server_root() . '/logs/mirror.log';
        my $end = time + 5;

        http('GET /up/other');

        for ( ;; ) {
            open my $in, '<', $file or die "$file: $!\n";
            my @lines = <$in>;

            return scalar grep { m{"GET /up/mirror} } @lines
                if grep { m{"GET /up/other} } @lines or time > $end;
            select undef, undef, undef, 0.01;
        }
    };

    see('GET /mirrored', '', 401, @refused);
    see('GET /mirrored', 'x', 401, store => 'no-store',
        log => 'malformed', status => 'malformed', body => qr/malformed/,
        challenge => "$bare, error=\"invalid_token\"");
    is($seen->(), 0, 'what is refused is not mirrored');
    see('GET /mirrored', $one, 200);
}


sub mirrored {
    my $file = server_root() . '/logs/mirror.log';
    my $end = time + 5;

    lookups('GET /mirrored', 1);

    for ( ;; ) {
        open my $in, '<', $file or die "$file: $!\n";
        my $n = grep { m{"GET /up/mirror} } <$in>;

        return is($n, 2, 'what passes is mirrored')
            if $n >= 2 || time > $end;
        select undef, undef, undef, 0.01;
    }
}


# --- nested locations

sub nested {
    my @on = qw(on off/on outer/inner outer/off/on regex/x if if?off=1);
    my @off = qw(alone outer/off/inner);

    for my $path (@on) {
        my %expires = $path =~ /=/ ? (store => 'max-age=3600') : ();

        see("GET /$path", '', 401, @refused);
        see("GET /$path", $one, 200, %expires, 'x-name' => 'a key');
    }

    see("GET /$_", '', 200) for @off;
    see("GET /$_", $one, 200, status => '') for @off;

    # Also for what is not there.
    see('GET /none', '', 401, @refused);
    see('GET /none', $one, 404, body => qr/404 Not Found/);

    # "return" comes before all access modules.
    see('GET /return', '', 200, body => "returned\n");
}


sub limit_except {
    see('GET /write', '', 200, body => "GET\n");
    see('HEAD /write', '', 200, body => '');
    see('POST /write', '', 401, @refused);
    see('DELETE /write', '', 401, @refused);
    see('POST /write', $one, 200, body => "POST\n");
    see('GET /read', '', 200, body => "GET\n");
    see('DELETE /read', '', 200, body => "DELETE\n");
    see('POST /read', '', 401, @refused);
    see('POST /read', $one, 200, body => "POST\n");
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== an error page has the headers of the refusal, if its status is the same
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers . $::pages
--- init
::error_pages();
--- request
GET /as200
--- response_body
page
--- response_headers
!WWW-Authenticate
Cache-Control: no-store
--- error_log
agntkey: key refused: missing



=== a guarded error page is refused once, and nothing goes round
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers . $::pages
--- init
::guarded_pages();
--- request
GET /guarded
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer realm="agntkey"
Cache-Control: no-store
Content-Type: application/problem+json
--- error_log
agntkey: key refused: missing
--- no_error_log
redirection cycle



=== a rewrite is decided by the location it ends in
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers . $::ways
--- init
::rewrites();
--- request
GET /to_v1
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== try_files and index: each location decides once
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers . $::ways
--- init
::try_files();
--- request
GET /try_v1
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- response_headers
X-Status: ok
X-Name: a key
--- error_log
agntkey: key refused: missing



=== X-Accel-Redirect: variables survive, and a guarded target decides again
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers . $::ways
--- init
::accel();
--- request
GET /accel?accel=/internal
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- response_headers
X-Status: ok
X-Name: a key
--- error_log
agntkey: key refused: workspace_mismatch



=== SSI includes a guarded location as it includes a denied one
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers . $::subrequests
--- init
::ssi();
--- request
GET /ssi
--- response_body
hello
hello
none
--- error_log
agntkey: key refused: missing



=== mirror: only what is not refused is mirrored
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers . $::subrequests
--- init
::mirror();
--- request
GET /mirrored
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- error_log
agntkey: key refused: malformed



=== mirror: the copy is not asked about
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers . $::subrequests
--- init
::mirrored();
--- request
GET /mirrored
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== agntkey at server level is inherited, and switched off and on below
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers . $::nested
--- init
::nested();
--- request
GET /on
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== agntkey at http level is the same
--- http_config eval: $::http_config . 'agntkey on;'
--- user_files eval: $::user_files
--- config eval: $::headers . $::nested =~ s/agntkey on;//r
--- init
::nested();
--- request
GET /on
--- error_code: 401
--- error_log
agntkey: key refused: missing



=== limit_except: methods are guarded, or left alone
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::headers . $::nested
--- init
::limit_except();
--- request
POST /write
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer realm="agntkey"
Cache-Control: no-store
--- error_log
agntkey: key refused: missing
