# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What "nginx -t" says of a configuration: a mistake stops it, with a message
# that names the directive.  And the module without "agntkey on".

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use File::Path qw(make_path);
use Test::Nginx::Socket 'no_plan';

redis_start();
fake_redis(keys => ['one']);

our $dir = test_dir() . '/conf';

make_path($dir);

sub file {
    my ($name, $text) = @_;

    open my $out, '>', "$dir/$name" or die "$dir/$name: $!\n";
    print $out $text;
    close $out;
    return "$dir/$name";
}

# A password, and nobody's: it must not be in any message.
my $secret = 'pass' . 'word' . $$;

my $good_file = file('good', "$secret\n");
my $empty_file = file('empty', '');
my $blank_file = file('blank', "\n$secret\n");
my $max_file = file('max', 'x' x 1024);
my $long_file = file('long', 'x' x 1025);
my $bare_file = file('bare', $secret);
my $crlf_file = file('crlf', "$secret\r\nmore\r\n");
my $text_file = file('text', "no certificate\n");


# --- nginx -t

sub nginx_t {
    my ($http, $server, $location) = @_;
    my $binary = $ENV{TEST_NGINX_BINARY} || 'nginx';
    my $modules = join '', map { "load_module $_;\n" }
                           split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '';
    my $temp = join '', map { "    ${_}_temp_path $dir/$_;\n" }
                        qw(client_body proxy fastcgi uwsgi scgi);

    file('nginx.conf', <<"_EOC_");
$modules
pid $dir/nginx.pid;
error_log stderr;
events { }
http {
    access_log off;
$temp
    $http
    server {
        listen 127.0.0.1:$ENV{TEST_NGINX_PORT};
        $server
        location / { $location }
    }
}
_EOC_

    my $out = qx{$binary -e stderr -t -p '$dir/' -c '$dir/nginx.conf' 2>&1};

    return ($? >> 8, $out, $? & 127);
}


# The same at the level that is named, or at all where it may stand.

sub at {
    my ($level, $text) = @_;
    my $on = $text =~ /^agntkey (?!;)/m ? '' : 'agntkey on;';

    return nginx_t($level eq 'http' ? $text : '',
                   $level eq 'server' ? $text : '',
                   $level eq 'location' ? "$on $text" : $on);
}


sub bad {
    my ($level, $text, $message) = @_;
    my ($status, $out, $signal) = at($level, $text);
    my ($directive) = $text =~ /(agntkey\w*)\b[^;]*;\s*\z/;
    my $title = "$level: " . ($text =~ s/\Q$dir\E/.../gr);

    $title = substr($title, 0, 100) . '...' if length $title > 100;
    $title =~ s/\Q$secret\E/.../g;

    is("$status $signal", '1 0', "$title - refused") or diag($out);

    # OpenSSL says what is wrong, and the line after it says where

    my $emerg = join "\n", $out =~ /(\[emerg\].*)/g;
    $emerg = $out if $emerg eq '';

    like($emerg, qr/"$directive"/, "$title - names it");
    like($emerg, $message, "$title - says why") if $message;
    unlike($out, qr/\Q$secret\E/, "$title - shows no password");
}


sub good {
    my ($level, $text) = @_;
    my ($status, $out) = at($level, $text);
    my $title = "$level: " . ($text =~ s/\Q$dir\E/.../gr);

    $title = substr($title, 0, 100) . '...' if length $title > 100;
    $title =~ s/\Q$secret\E/.../g;

    is($status, 0, "$title - accepted") or diag($out);
    unlike($out, qr/\[(?:warn|error|crit|alert|emerg)\]/,
           "$title - nothing to say") or diag($out);
    unlike($out, qr/\Q$secret\E/, "$title - shows no password");
}


# --- families

my %everywhere = (
    agntkey           => 'on',
    agntkey_token     => '$arg_key',
    agntkey_realm     => 'x',
    agntkey_workspace => 'acme',
    agntkey_scope     => 'a',
    agntkey_dry_run   => 'on',
    agntkey_stale     => '5s',
);

my %http_only = (
    agntkey_last_used                     => '1s',
    agntkey_prefix                        => 'acme',
    agntkey_redis                         => 'redis://127.0.0.1:1',
    agntkey_redis_password_file           => $good_file,
    agntkey_redis_connect_timeout         => '2s',
    agntkey_redis_timeout                 => '2s',
    agntkey_last_used                     => '2s',
    agntkey_redis_ssl_trusted_certificate => 'ca.pem',
    agntkey_redis_ssl_crl                 => 'crl.pem',
    agntkey_redis_ssl_certificate         => 'cert.pem',
    agntkey_redis_ssl_certificate_key     => 'key.pem',
    agntkey_redis_ssl_name                => 'redis',
    agntkey_redis_ssl_verify              => 'off',
    agntkey_redis_ssl_verify_depth        => '2',
    agntkey_redis_ssl_protocols           => 'TLSv1.3',
    agntkey_redis_ssl_ciphers             => 'HIGH',
);


sub duplicates {
    for my $name (sort keys %everywhere) {
        for my $level (qw(http server location)) {
            bad($level, "$name $everywhere{$name}; "
                        . "$name $everywhere{$name};", qr/is duplicate/);
        }
    }

    for my $name (sort keys %http_only) {
        bad('http', "$name $http_only{$name}; $name $http_only{$name};",
            qr/is duplicate/);
    }

    # Another value is a duplicate too, for values of every kind.
    bad('http', "agntkey $_->[0]; agntkey $_->[1];", qr/is duplicate/)
        for ['on', 'off'], ['off', 'on'], ['off', 'off'];
    bad('http', 'agntkey_token $arg_a; agntkey_token "x$arg_b";',
        qr/is duplicate/);
    bad('http', 'agntkey_token "x$arg_a"; agntkey_token $arg_b;',
        qr/is duplicate/);
    bad('http', 'agntkey_realm ""; agntkey_realm a;', qr/is duplicate/);
    bad('http', 'agntkey_workspace a; agntkey_workspace $arg_b;',
        qr/is duplicate/);
    bad('http', 'agntkey_redis unix:/a; agntkey_redis redis://b;',
        qr/is duplicate/);

    # On another level it is another word.
    my ($status, $out) = nginx_t(
        (map { my $n = $_; join ' ', map { "$_ $everywhere{$_};" }
               sort keys %everywhere } 1 .. 3));
    is($status, 0, 'each directive once on every level') or diag($out);
}


sub contexts {
    for my $name (sort keys %http_only) {
        for my $level (qw(server location)) {
            bad($level, "$name $http_only{$name};", qr/is not allowed here/);
        }
    }

    for my $name (sort keys %everywhere) {
        my $text = "$name $everywhere{$name};";

        good($_, $text) for qw(http server location);

        if ($name !~ /^agntkey(?:_workspace|_scope)?$/) {
            my ($status, $out) = nginx_t('', '',
                                         "limit_except GET { $text }");
            is($status, 1, "$name in limit_except");
            like($out, qr/"$name" directive is not allowed here/,
                 "$name in limit_except - says so");
        }

        my ($status, $out) = nginx_t('', '', "if (\$arg_a) { $text }");
        is($status, 1, "$name in if");
        like($out, qr/"$name" directive is not allowed here/,
             "$name in if - says so");
    }

    for my $text ('agntkey on;', 'agntkey_workspace acme;',
                  'agntkey_scope a;')
    {
        my ($status, $out) = nginx_t('', '', "limit_except GET { $text }");
        is($status, 0, "$text in limit_except") or diag($out);
    }
}


sub arguments {
    for my $name (sort keys %everywhere, keys %http_only) {
        my $level = $everywhere{$name} ? 'location' : 'http';

        bad($level, "$name;", qr/invalid number of arguments/);

        bad($level, "$name $http_only{$name} x;",
            qr/invalid number of arguments/)
            if $http_only{$name} && $name !~ /protocols/;
    }

    bad('location', "$_ a b;", qr/invalid number of arguments/)
        for qw(agntkey agntkey_token agntkey_realm agntkey_dry_run);
}


sub flags {
    for my $name (qw(agntkey agntkey_dry_run agntkey_redis_ssl_verify)) {
        bad('http', "$name $_;", qr/invalid value|must be "on" or "off"/)
            for qw(yes no true 1 0 onn of), '""', '$arg_x';
    }

    good('http', 'agntkey ON;');
}


sub prefixes {
    bad('http', "agntkey_prefix $_;", qr/must be 1 to 32 letters, digits/)
        for '""', '_a', '-a', 'a.b', '"a b"', 'a/b', 'a:b', "\xc3\xa9", 'a$b',
            '"a\"b"', 'x' x 33;
    good('http', "agntkey_prefix $_;")
        for 'a', '0', 'a_b-c', 'A', 'x' x 32, 'a_', 'a-';
}


sub realms {
    bad('location', "agntkey_realm \"$_\";", qr/control character/)
        for "a\x01b", "\x7f", 'a\tb', 'a\nb', 'a\rb';
    good('location', "agntkey_realm $_;")
        for '""', "'a \"b\"'", '"a\\\\b"', "\xc3\xa9", "'" . 'x' x 1000 . "'";
}


sub names {
    bad('location', "agntkey_scope $_;", qr/invalid scope/)
        for '""', '"a b"', 'a,b', 'a "b c"', '-a', ':a', '*', "\xc3\xa9",
            '\'a"b\'', '\'a\\b\'', 'x' x 65, 'a "" b', '$arg_a';
    good('location', "agntkey_scope $_;")
        for 'a', 'A0', 'a:b/c.d_e-f', 'x' x 64, 'a a',
            join ' ', map { "s$_" } 1 .. 32;
    bad('location', 'agntkey_scope ' . join(' ', map { "s$_" } 1 .. 33)
                    . ';', qr/more scopes than/);

    bad('location', "agntkey_workspace $_;", qr/invalid workspace name/)
        for '"a b"', 'a/b', 'a:b', '-a', '.a', '_a', '*', "\xc3\xa9",
            'x' x 65, 'a "b c"';
    good('location', "agntkey_workspace $_;")
        for 'a', 'A0', 'a.b_c-d', 'x' x 64, '""', 'a b c', '$arg_a',
            'a$arg_b', '"" a';
}


# A word that switches is never taken for a name, a file or a text.

sub words {
    my %says = (
        agntkey_workspace       => qr/names of workspaces, or "off" alone/,
        agntkey_scope           => qr/names of scopes, or "off" alone/,
        agntkey_realm           => qr/takes a text/,
        agntkey_token           => qr/needs a value with a variable/,
        agntkey_stale           => qr/invalid value/,
        agntkey_admin_workspace => qr/takes a workspace/,
        agntkey_admin_max_keys  => qr/invalid number/,
    );
    my %http_says = (
        agntkey_prefix          => qr/what keys begin with/,
        agntkey_redis           => qr/bad URL/,
        agntkey_cache           => qr/invalid parameter/,
        agntkey_last_used       => qr/invalid value/,
        agntkey_redis_timeout   => qr/invalid value/,
        agntkey_redis_connect_timeout    => qr/invalid value/,
        agntkey_redis_ssl_verify_depth   => qr/invalid number/,
        agntkey_redis_ssl_protocols      => qr/has an unknown protocol/,
        map { ($_ => qr/cannot be switched/) }
            qw(agntkey_redis_password_file
               agntkey_redis_ssl_trusted_certificate agntkey_redis_ssl_crl
               agntkey_redis_ssl_certificate
               agntkey_redis_ssl_certificate_key
               agntkey_redis_ssl_name agntkey_redis_ssl_ciphers),
    );
    my %honoured = map { $_ => 1 } 'agntkey_workspace off',
        'agntkey_scope off', 'agntkey_cache off', 'agntkey_last_used off';

    for my $word (qw(off on OFF On)) {
        for my $name (sort keys %says) {
            next if $honoured{"$name $word"};
            bad('location', "$name $word;", $says{$name});
        }

        for my $name (sort keys %http_says) {
            next if $honoured{"$name $word"};
            bad('http', "$name $word;", $http_says{$name});
        }

        next if $word eq 'off';

        my ($status, $out) = nginx_t('', '', 'agntkey_admin on; '
                                     . "agntkey_admin_token_file $word;");
        is($status, 1, "agntkey_admin_token_file $word - refused");
        like($out, qr/"agntkey_admin_token_file".*takes a file or "off"/,
             "agntkey_admin_token_file $word - says why");
    }

    # Alone it is a switch, and beside others it is nothing.
    for my $name (qw(agntkey_workspace agntkey_scope)) {
        bad('location', "$name $_;", $says{$name})
            for 'off a', 'a off', 'off off', 'a on', 'a OFF';
        good($_, "$name off;") for qw(http server location);
        good('location', "$name offset;");
        good('location', "$name a.off;");
        good('location', "$name only;");
    }

    my ($status, $out) = nginx_t('', '', 'agntkey_workspace $arg_off;');
    is($status, 0, 'a value with a variable is no word') or diag($out);

    # Every directive that takes a word is here.
    my $text = join '', map {
        open my $in, '<', $_ or die "$_: $!\n";
        local $/;
        <$in>;
    } glob 'src/*_module.c src/*/*_module.c';

    my %flags = map { $_ => 1 } qw(agntkey agntkey_dry_run agntkey_admin
                                   agntkey_redis_ssl_verify
                                   agntkey_admin_token_file);

    for my $name ($text =~ /ngx_string\("(agntkey\w*)"\)/g) {
        ok($flags{$name} || $says{$name} || $http_says{$name},
           "$name was tried with these words");
    }
}


sub tokens {
    bad('location', "agntkey_token $_;", qr/needs a value with a variable/)
        for 'key', '""', 'http_x_api_key', '"a b"';
    bad('location', "agntkey_token $_;",
        qr/\$http_authorization|bearer credentials/)
        for '$http_authorization', '${http_authorization}',
            '$HTTP_AUTHORIZATION', '$arg_key$http_authorization',
            '$http_authorization$arg_key';
    bad('location', "agntkey_token $_;",
        qr/does not take \$remote_user.*access log/)
        for '$remote_user', '${remote_user}', '$REMOTE_USER',
            '$http_x_key$remote_user', '$remote_user$http_x_key',
            '"agnt_$remote_user"', '"${remote_user}x"', '"x$remote_user-"';
    good('location', "agntkey_token $_;")
        for '"x$remote_addr"', '"remote_user$arg_key"',
            '$arg_remote_user';
    good('location', "agntkey_token $_;")
        for '$http_x_api_key', '${arg_key}', '$cookie_key', '$arg_a$arg_b',
            '"key $arg_a"', '$http_authorization_2';
}


# nginx itself says which variable it does not know.

sub unknown_variable {
    for my $name (qw(agntkey_token agntkey_workspace)) {
        for my $value ('$nobody', 'a$nobody', '${nobody}') {
            my ($status, $out) = at('location', "$name $value;");

            is($status, 1, "$name $value - refused");
            like($out, qr/unknown "nobody" variable/,
                 "$name $value - says why");
        }
    }
}


sub times {
    for my $name (qw(agntkey_redis_connect_timeout agntkey_redis_timeout)) {
        bad('http', "$name $_;", qr/must be between 1ms and 60s/)
            for '0', '0s', '0ms', '61s', '60001ms', '2m', '1h', '100d';
        bad('http', "$name $_;", qr/invalid value/)
            for 'a', '""', '-1', '1x', '1.5s', '1s1s', 's',
                '99999999999999999999s', '$arg_a';
        good('http', "$name $_;")
            for '1ms', '1', '60s', '60000ms', '1m', '500ms', '"1s 500ms"';
    }

    bad('http', "agntkey_last_used $_;", qr/must be "off" or between/)
        for '0', '0ms', '3601s', '61m', '1d';
    bad('http', "agntkey_last_used $_;", qr/invalid value/)
        for 'a', '""', '-1', 'on', 'OFF', '1.5s';
    good('http', "agntkey_last_used $_;")
        for 'off', '1ms', '1s', '1h', '3600s';
}


sub last_used {
    bad('http', "agntkey_last_used $_;", qr/"off" or between 1ms and 1h/)
        for '0', '0s', '0ms', '61m', '3601s', '3600001ms', '2h', '1d';
    bad('http', "agntkey_last_used $_;", qr/invalid value/)
        for 'a', '""', '-1', '1x', '1.5s', '1s1s', 's', 'on', 'of', 'OFF',
            'offf', '99999999999999999999s', '$arg_a';
    bad('http', "agntkey_last_used $_->[0]; agntkey_last_used $_->[1];",
        qr/is duplicate/) for ['off', '1s'], ['1s', 'off'], ['off', 'off'];
    good('http', "agntkey_last_used $_;")
        for 'off', '1ms', '1', '1s', '60m', '1h', '3600s', '"1m 30s"';
}


sub caches {
    bad('http', "agntkey_cache $_;", qr/invalid parameter/)
        for 'on', 'of', 'OFF', '""', '0', '100', 'entries', 'entries=',
            'entries=0', 'entries=-1', 'entries=1k', 'entries=1.5',
            'entries=1000001', 'entries=99999999999999999999',
            'entries=$arg_a', 'entries=1 entries=2', 'entries=1 negative=',
            'entries=1 negative=-1', 'entries=1 negative=1000001',
            'entries=1 negative=x', 'entries=1 negative=1 negative=1',
            'entries=1 lease=', 'entries=1 lease=0', 'entries=1 lease=99ms',
            'entries=1 lease=61s', 'entries=1 lease=60001ms',
            'entries=1 lease=x', 'entries=1 lease=-1', 'entries=1 lease=1.5s',
            'entries=1 lease=1s lease=1s', 'entries=1 size=2',
            'off entries=1', 'entries=1 off', 'off off', 'lease=1s off';
    bad('http', "agntkey_cache $_;", qr/needs "entries=" or "off"/)
        for 'lease=1s', 'negative=10', 'negative=10 lease=1s';
    bad('http', 'agntkey_cache;', qr/invalid number of arguments/);
    bad('http', 'agntkey_cache entries=1 lease=1s negative=1 x;',
        qr/invalid number of arguments/);
    bad('http', "agntkey_cache $_->[0]; agntkey_cache $_->[1];",
        qr/is duplicate/)
        for ['off', 'off'], ['off', 'entries=1'], ['entries=1', 'off'],
            ['entries=1', 'entries=2'];
    bad($_, 'agntkey_cache off;', qr/is not allowed here/)
        for qw(server location);
    good('http', "agntkey_cache $_;")
        for 'off', 'entries=1', 'entries=1000000', 'entries=1 lease=100ms',
            'entries=1 lease=60s', 'entries=1 lease=1m',
            'lease=1s entries=1', 'negative=0 entries=1',
            'entries=1 negative=1000000',
            'negative=5 lease=2s entries=10000';

    bad('location', "agntkey_stale $_;", qr/invalid value/)
        for 'a', '""', '-1', 'off', 'on', '1.5s', '1x', '$arg_a',
            '99999999999999999999s';
    good('location', "agntkey_stale $_;")
        for '0', '1ms', '5s', '10m', '1d';
}


sub urls {
    my $path = '/' . 'x' x 106;

    my %bad = (
        '""'                            => qr/must begin with/,
        '127.0.0.1:6379'                => qr/must begin with/,
        'localhost'                     => qr/must begin with/,
        'http://127.0.0.1'              => qr/must begin with/,
        'REDIS://127.0.0.1'             => qr/must begin with/,
        'redis:127.0.0.1'               => qr/must begin with/,
        'redis:/127.0.0.1'              => qr/must begin with/,
        'tcp://127.0.0.1'               => qr/must begin with/,
        'redis+unix:///tmp/sock'        => qr/must begin with/,
        '" redis://127.0.0.1"'          => qr/space/,
        '"redis://127.0.0.1 "'          => qr/space/,
        '"redis://127.0.0.1\n"'         => qr/control character/,
        'redis://'                      => qr/no host/,
        'redis:///'                     => qr/no host/,
        'redis:///0'                    => qr/no host/,
        'redis://:6379'                 => qr/no host/,
        "redis://:$secret\@"            => qr/no host/,
        "redis://u:$secret\@:6379"      => qr/no host/,
        'redis://[]'                    => qr/no host/,
        'rediss://'                     => qr/no host/,
        'redis://a:0'                   => qr/invalid port/,
        'redis://a:65536'               => qr/invalid port/,
        'redis://a:99999999999999999999' => qr/invalid port/,
        'redis://a:-1'                  => qr/invalid port/,
        'redis://a:x'                   => qr/invalid port/,
        'redis://a:63x9'                => qr/invalid port/,
        'redis://a:'                    => qr/invalid port/,
        'redis://[::1]:0'               => qr/invalid port/,
        'redis://::1'                   => qr/must stand in brackets/,
        'redis://::1:6379'              => qr/must stand in brackets/,
        'redis://2001:db8::1'           => qr/must stand in brackets/,
        'redis://[::1'                  => qr/no "\]"/,
        'redis://[::1]x'                => qr/between "\]" and the port/,
        'redis://[::1]6379'             => qr/between "\]" and the port/,
        'redis://a/x'                   => qr/invalid database/,
        'redis://a/-1'                  => qr/invalid database/,
        'redis://a/1/2'                 => qr/invalid database/,
        'redis://a/1?x=y'               => qr/invalid database/,
        'redis://a/99999999999999999999' => qr/invalid database/,
        'redis://a?db=1'                => qr/invalid host/,
        'redis://a#1'                   => qr/invalid host/,
        'redis://a%20b'                 => qr/invalid host/,
        'redis://' . 'a' x 256          => qr/the host is too long/,
        "redis://$secret\@a"            => qr/no ":"/,
        "redis://u:$secret%\@a"         => qr/percent-encoding in the pass/,
        "redis://u:$secret%2\@a"        => qr/percent-encoding in the pass/,
        "redis://u:$secret%zz\@a"       => qr/percent-encoding in the pass/,
        "redis://u:$secret%00\@a"       => qr/percent-encoding in the pass/,
        "redis://u%zz:$secret\@a"       => qr/percent-encoding in the user/,
        "redis://u:$secret/x\@a"        => qr/"%2F"/,
        "redis://u:a\@$secret\@a:x"     => qr/bad URL/,
        'unix:'                         => qr/must be absolute/,
        'unix:redis.sock'               => qr/must be absolute/,
        'unix:?db=1'                    => qr/must be absolute/,
        "unix:/$path"                   => qr/too long/,
        'unix:/a?db='                   => qr/invalid database/,
        'unix:/a?db=x'                  => qr/invalid database/,
        'unix:/a?x=1'                   => qr/only "\?db=N"/,
        'unix:/a?'                      => qr/only "\?db=N"/,
    );

    bad('http', "agntkey_redis $_;", $bad{$_}) for sort keys %bad;

    # Of names the resolver of the system does not know.
    bad('http', "agntkey_redis redis://u:$secret\@a..b;");

    good('http', "agntkey_redis $_;") for
        'redis://127.0.0.1', 'redis://127.0.0.1:1', 'redis://127.0.0.1:65535',
        'redis://127.0.0.1/', 'redis://127.0.0.1/15', 'redis://localhost',
        'redis://[::1]', 'redis://[::1]:6379/1', 'redis://:@127.0.0.1',
        "redis://:$secret\@127.0.0.1", "redis://u:$secret\@127.0.0.1:1/2",
        "redis://u:%40%2f%3A$secret\@127.0.0.1", 'unix:/tmp/redis.sock',
        'unix:/tmp/redis.sock?db=1', "unix:$path";
}


sub password_files {
    my $redis = 'agntkey_redis redis://127.0.0.1;';

    bad('http', "$redis agntkey_redis_password_file $dir/none;",
        qr/failed \(2: No such file/);
    bad('http', "agntkey_redis_password_file $dir;", qr/failed \(21: /);
    bad('http', "agntkey_redis_password_file $empty_file;", qr/is empty/);
    bad('http', "agntkey_redis_password_file $blank_file;", qr/is empty/);
    bad('http', "agntkey_redis_password_file $long_file;", qr/is too long/);
    bad('http', 'agntkey_redis_password_file "";', qr/must not be empty/);

    bad('http', "agntkey_redis redis://u:$secret\@127.0.0.1; "
                . "agntkey_redis_password_file $good_file;",
        qr/exclude each other/);
    bad('http', "agntkey_redis redis://:$secret\@127.0.0.1; "
                . "agntkey_redis_password_file $good_file;",
        qr/exclude each other/);

    good('http', "agntkey_redis_password_file $_;")
        for $good_file, $bare_file, $crlf_file, $max_file;
    good('http', "agntkey_redis redis://u:\@127.0.0.1; "
                 . "agntkey_redis_password_file $good_file;");
}


# What OpenSSL or nginx itself does not like.

sub bad_tls {
    my $tls = 'agntkey_redis rediss://127.0.0.1;';
    my $p = 'agntkey_redis_ssl';

    return (
        "$tls ${p}_protocols TLSv9;",
        "$tls ${p}_protocols TLSv1.2 TLSv4;",
        "$tls ${p}_ciphers nonsense;",
        map { ("$tls ${p}_trusted_certificate $_;", "$tls ${p}_crl $_;",
               "$tls ${p}_certificate_key $_; ${p}_certificate $_;") }
            "$dir/none", $text_file,
    );
}

sub bad_tls_named { bad('http', $_) for bad_tls() }


sub ssl {
    my $tls = 'agntkey_redis rediss://127.0.0.1;';
    my $p = 'agntkey_redis_ssl';

    bad('http', "${p}_$_ \"\";", qr/must not be empty/)
        for qw(trusted_certificate crl certificate certificate_key name
               ciphers);
    bad('http', "${p}_verify_depth $_;", qr/invalid number/)
        for '-1', 'x', '""', '1.5', '99999999999999999999';
    bad('http', "${p}_verify_depth $_;", qr/must be between 0 and 100/)
        for '101', '1000000';

    bad('http', "$tls ${p}_certificate $text_file;", qr/go together/);
    bad('http', "$tls ${p}_certificate_key $text_file;", qr/go together/);

    for my $text (bad_tls()) {
        my ($status, $out) = at('http', $text);
        is($status, 1, 'a mistake in TLS settings is refused')
            or diag($text, "\n", $out);
    }

    good('http', "$tls ${p}_protocols TLSv1.2 TLSv1.3;");
    good('http', "$tls ${p}_verify_depth $_;") for 0, 1, 100;
    good('http', "$tls ${p}_verify off; ${p}_name redis.example;");
    good('http', "$tls ${p}_ciphers HIGH:!aNULL;");
}


# What is wrong is wrong while nothing is switched on, too, as far as a
# directive alone shows it.

sub switched_off {
    for my $text ('agntkey_redis redis://;', 'agntkey_redis_timeout 0;',
                  'agntkey_prefix _;', 'agntkey_token key;',
                  'agntkey_scope "a b";', 'agntkey_workspace "a b";',
                  'agntkey_redis_ssl_verify maybe;')
    {
        my ($name) = split ' ', $text;
        my ($status, $out) = nginx_t($text, '', '');

        is($status, 1, "$text - without agntkey on");
        like($out, qr/\[emerg\].*"$name"/, "$text - names it");
    }
}


# --- without "agntkey on"

sub no_connection {
    my $before = fake_connections();

    for my $path ('/v1', '/none', '/off', '/v1') {
        for my $headers ('', bearer(key_for('one')), bearer('x')) {
            http("GET $path", headers => $headers);
        }
    }

    is(http('GET /v1')->{body}, "hello\n", 'nginx works');
    is(fake_connections(), $before, 'no connection to Redis');
}

sub connects {
    my $res = http('GET /v1', headers => bearer(key_for('one')));

    is($res->{code}, 200, 'agntkey on - a good key');
    cmp_ok(fake_connections(), '>', 0, 'agntkey on - connects');
}


our $fake_config = <<'_EOC_';
    agntkey_redis redis://127.0.0.1:$TEST_NGINX_FAKE_PORT;
_EOC_

our $user_files = ">>> v1\nhello\n>>> off\nhello\n";


# Configurations are meant to fail; what they name is checked above.
watch_logs(allow => qr/\[emerg\]/);
run_tests();
logs_clean();

__DATA__

=== an unknown parameter stops nginx, and its directive is named
--- http_config
    agntkey_redis redis://127.0.0.1:70000;
--- config
--- must_die
--- suppress_stderr
--- error_log eval
qr/\[emerg\] .*bad URL in "agntkey_redis": invalid port in /



=== each directive may stand once on a level
--- config
    agntkey on;
--- init
::duplicates();
--- request
GET /
--- error_code: 401



=== directives stand where they may, and nowhere else
--- config
    agntkey on;
--- init
::contexts();
--- request
GET /
--- error_code: 401



=== the number of arguments is checked
--- config
    agntkey on;
--- init
::arguments();
--- request
GET /
--- error_code: 401



=== a flag is on or off
--- config
    agntkey on;
--- init
::flags();
--- request
GET /
--- error_code: 401



=== a prefix is a word
--- config
    agntkey on;
--- init
::prefixes();
--- request
GET /
--- error_code: 401



=== a realm has no control characters
--- config
    agntkey on;
--- init
::realms();
--- request
GET /
--- error_code: 401



=== scopes and workspaces are names
--- config
    agntkey on;
--- init
::names();
--- request
GET /
--- error_code: 401



=== a word that switches is not taken for data
--- config
    agntkey on;
--- init
::words();
--- request
GET /
--- error_code: 401



=== agntkey_token takes a variable, but not Authorization
--- config
    agntkey on;
--- init
::tokens();
--- request
GET /
--- error_code: 401



=== a variable that nobody knows stops nginx
--- config
    agntkey on;
--- init
::unknown_variable();
--- request
GET /
--- error_code: 401



=== a timeout is a time, and neither 0 nor endless
--- config
    agntkey on;
--- init
::times();
--- request
GET /
--- error_code: 401



=== how often last use is written is a time, or "off"
--- config
    agntkey on;
--- init
::last_used();
--- request
GET /
--- error_code: 401



=== what a worker may remember, and for how long
--- config
    agntkey on;
--- init
::caches();
--- request
GET /
--- error_code: 401



=== the URL of Redis is checked in all its parts
--- config
    agntkey on;
--- init
::urls();
--- request
GET /
--- error_code: 401



=== a password file has a password, and is the only place of it
--- config
    agntkey on;
--- init
::password_files();
--- request
GET /
--- error_code: 401



=== TLS settings are checked
--- config
    agntkey on;
--- init
::ssl();
--- request
GET /
--- error_code: 401



=== a message about TLS settings names the directive
--- config
    agntkey on;
--- init
::bad_tls_named();
--- request
GET /
--- error_code: 401



=== a mistake counts while nothing is switched on
--- config
    agntkey off;
--- init
::switched_off();
--- request
GET /



=== the module without a directive changes nothing and opens no connection
--- http_config
--- user_files eval: $::user_files
--- config
    root html;
    location /v1 { }
--- init
::no_connection();
--- request
GET /v1
--- response_body
hello
--- no_error_log
agntkey:



=== directives without "agntkey on" open no connection
--- http_config eval: $::fake_config
--- user_files eval: $::user_files
--- config
    root html;
    agntkey_realm x;
    agntkey_scope a;
    agntkey_dry_run on;
    add_header X-Id $agntkey_id;
    location /off { agntkey off; }
--- init
::no_connection();
--- request
GET /v1
--- response_body
hello
--- response_headers
!WWW-Authenticate
!Cache-Control
--- no_error_log
agntkey: key



=== switched on, it connects
--- http_config eval: $::fake_config
--- user_files eval: $::user_files
--- config
    root html;
    agntkey on;
--- init
::connects();
--- request
GET /v1
--- more_headers eval
bearer(key_for('one'))
--- response_body
hello
--- no_error_log
agntkey: key
