# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# agntkey_scope: a key must hold all of these.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Test::Nginx::Socket 'no_plan';

redis_start();

our $long = 's' . 'x' x 62 . 'y';
our @most = map { "scope$_" } 1 .. 32;

my %keys = (
    none      => '',
    a         => 'a',
    b         => 'b',
    ab        => 'a b',
    ba        => 'b a',
    abc       => 'a b c',
    twice     => 'a a',
    read      => 'read',
    reader    => 'reader',
    rea       => 'rea',
    upper     => 'READ',
    admin     => 'read:admin write',
    urls      => 'https://api.example/v1 x_y-z.1',
    prefixes  => 'aa ab ac ba',
    long      => $long,
    shorter   => substr($long, 0, 63),
    most      => "@most",
);

seed_key($_, scopes => $keys{$_}) for keys %keys;
seed_key('field', fields => { scopes => undef });

our $http_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_REDIS_PORT; agntkey_cache off;
_EOC_

our $config = <<'_EOC_';
        root html;
        add_header X-Status $agntkey_status always;
        add_header X-Scopes "[$agntkey_scopes]" always;
        agntkey on;

        location /free { }
        location /a { agntkey_scope a; }
        location /ab { agntkey_scope a b; }
        location /cba { agntkey_scope c b a; }
        location /read { agntkey_scope read; }
        location /urls { agntkey_scope https://api.example/v1 x_y-z.1; }
        location /long { agntkey_scope LONG; }
        location /most { agntkey_scope MOST; }

        location /outer {
            agntkey_scope a;
            location /outer/inner { }
            location /outer/own { agntkey_scope b; }
            location /outer/off {
                agntkey_scope off;
                location /outer/off/inner { }
                location /outer/off/own { agntkey_scope b; }
            }
        }
_EOC_

$config =~ s/LONG/$long/;
$config =~ s/MOST/@most/;

our $user_files = join '', map { ">>> $_\nhello\n" }
    qw(free a ab cba read urls long most outer/inner outer/own outer/off/page
       outer/off/inner outer/off/own);


# allowed($path, 'its scopes', keys that may pass): all others may not.

sub allowed {
    my ($path, $scopes, @names) = @_;
    my %names = map { $_ => 1 } @names;

    for my $label (sort keys %keys) {
        my $res = http("GET $path", headers => bearer(key_for($label)));
        my $title = "$path: a key with \"$keys{$label}\"";
        my $h = $res->{headers};

        is("$res->{code} $h->{'x-status'}",
           $names{$label} ? '200 ok' : '403 insufficient_scope', $title)
            or diag($res->{raw});

        is($h->{'www-authenticate'} // '', $names{$label} ? ''
           : 'Bearer realm="agntkey", error="insufficient_scope",'
             . " scope=\"$scopes\"", "$title - challenge");
        is($h->{'cache-control'} // '', $names{$label} ? '' : 'no-store',
           "$title - Cache-Control");
        is($h->{'x-scopes'}, "[$keys{$label}]",
           "$title - \$agntkey_scopes");

        next if $names{$label};

        like($res->{body}, qr/with all of these scopes: \Q$scopes\E\./,
             "$title - the detail names them all");
    }
}


sub all {
    allowed('/free', '', keys %keys);
    allowed('/a', 'a', qw(a ab ba abc twice));
    allowed('/ab', 'a b', qw(ab ba abc));
    allowed('/cba', 'c b a', qw(abc));
}


sub exact {
    allowed('/read', 'read', 'read');
    allowed('/urls', 'https://api.example/v1 x_y-z.1', 'urls');
    allowed('/long', $long, 'long');
    allowed('/most', "@most", 'most');
}


sub inherited {
    allowed('/outer/inner', 'a', qw(a ab ba abc twice));
    allowed('/outer/own', 'b', qw(b ab ba abc));
}


sub taken_away {
    allowed('/outer/off/page', '', keys %keys);
    allowed('/outer/off/inner', '', keys %keys);
    allowed('/outer/off/own', 'b', qw(b ab ba abc));
}


watch_logs();
run_tests();
logs_clean();

__DATA__

=== a key needs all scopes of the location, in whatever order
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::all();
--- request
GET /ab
--- more_headers eval
bearer(key_for('a'))
--- error_code: 403
--- error_log eval
[qr/agntkey: key refused: insufficient_scope, id: @{[key_id(
    key_for('a'))]}, /]



=== a scope is compared as a whole, and its case counts
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::exact();
--- request
GET /read
--- more_headers eval
bearer(key_for('reader'))
--- error_code: 403
--- error_log
agntkey: key refused: insufficient_scope



=== scopes are inherited, and replaced in an inner location
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::inherited();
--- request
GET /outer/own
--- more_headers eval
bearer(key_for('a'))
--- error_code: 403
--- error_log
agntkey: key refused: insufficient_scope



=== "off" takes the rule away
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- init
::taken_away();
--- request
GET /outer/off/own
--- more_headers eval
bearer(key_for('a'))
--- error_code: 403
--- error_log
agntkey: key refused: insufficient_scope



=== a key without the field has no scope
--- http_config eval: $::http_config
--- user_files eval: $::user_files
--- config eval: $::config
--- request eval
['GET /free', 'GET /a']
--- more_headers eval
[(bearer(key_for('field'))) x 2]
--- error_code eval
[200, 403]
--- response_headers eval
["X-Status: ok\nX-Scopes: []", "X-Status: insufficient_scope"]



=== scopes of the http level are asked for everywhere
--- http_config eval: $::http_config . 'agntkey_scope b;'
--- user_files eval: $::user_files
--- config eval: $::config
--- request eval
['GET /free', 'GET /free', 'GET /a']
--- more_headers eval
[map { bearer(key_for($_)) } qw(a b a)]
--- error_code eval
[403, 200, 200]
