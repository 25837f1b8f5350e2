# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Another module that brings functions of the same names: nchan has a hiredis
# of its own and shows it to everybody.  Whichever is loaded first, each has to
# use its own, and both have to work.

use strict;
use warnings;

use lib 't/util';
use Agntkey;
use Agntkey::Nginx;
use Test::More;

my $ours = $ENV{TEST_NGINX_LOAD_MODULES} // '';
my $binary = Agntkey::Nginx::binary();
my ($dir) = qx{$binary -V 2>&1} =~ /--modules-path=(\S+)/;
my $nchan = ($dir // '/usr/lib/nginx/modules') . '/ngx_nchan_module.so';

plan skip_all => "no $nchan (make deps)" if !-f $nchan;
plan skip_all => 'the module is part of this nginx' if !-f $ours;

sub file {
    open my $in, '<:raw', $_[0] or die "$_[0]: $!\n";
    local $/;
    return scalar <$in>;
}

plan skip_all => 'this module was linked with libhiredis.so: there was no'
                 . ' archive of it to link with'
    if file($ours) =~ /\0libhiredis\.so/;

{
    my $conf = test_dir() . '/nchan.conf';

    open my $out, '>', $conf or die "$conf: $!\n";
    print $out "load_module $nchan;\nerror_log stderr;\npid "
               . test_dir() . "/nchan.pid;\nevents { }\n";
    close $out;

    my $said = qx{$binary -e stderr -t -c '$conf' 2>&1};
    plan skip_all => "this nginx does not load nchan: $said" if $? != 0;
}

redis_start();
seed_key('one');
seed_key('two');

my $redis = "redis://127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT}";


# Nothing of hiredis is there for others, or taken from them.

sub symbols {
    my ($file) = @_;
    my $said = qx{nm -D '$file' 2>&1};

    return undef if $? != 0;
    return grep { / (?:__)?(?:redis|sds|hiredis)\w+/ } split /\n/, $said;
}

SKIP: {
    skip 'no nm', 1 if system 'command -v nm >/dev/null 2>&1';

    my @symbols = symbols($ours);
    ok(!@symbols, 'no function of hiredis is shown or asked for')
        or diag(join "\n", @symbols);
}


for my $order (['nchan before us', "$nchan $ours"],
               ['nchan after us', "$ours $nchan"])
{
    my ($title, $modules) = @$order;

    local $ENV{TEST_NGINX_LOAD_MODULES} = $modules;

    my $nginx = Agntkey::Nginx->new(
        workers => 2,
        http => "agntkey_redis $redis; nchan_redis_url $redis;",
        server => <<'_EOC_')->start;
location /t { agntkey on; add_header X-Cache $agntkey_cache; empty_gif; }

location /adm/ {
    agntkey_admin on;
    agntkey_admin_token_file off;
}

location = /pub {
    nchan_publisher;
    nchan_channel_id one;
    nchan_use_redis on;
}
_EOC_

    my @workers = sort $nginx->workers;

    answer_is(ask('one'), 200, "$title: a good key");
    answer_is(ask('nobody'), '401 unknown', "$title: an unknown key");
    ok(wait_until(10, sub {
        (ask('one')->{headers}{'x-cache'} // '') eq 'HIT';
    }), "$title: it is remembered");

    # What nchan does with its own.
    ok(wait_until(10, sub {
        http('POST /pub', body => 'x',
             headers => 'Content-Type: text/plain')->{code} =~ /^20[12]$/;
    }), "$title: nchan publishes through Redis");

    my $id = key_id(key_for('two'));

    answer_is(ask('two'), 200, "$title: another key");
    answer_is(http("POST /adm/keys/$id/revoke"), 200, "$title: is revoked");
    answer_is(ask('two'), '401 revoked', "$title: and refused");
    seed_key('two');

    redis_cmd('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    ok(wait_until(10, sub {
        20 == grep { ask('one')->{code} eq '200' } 1 .. 20
    }), "$title: connections to Redis are replaced");

    is("@{[sort $nginx->workers]}", "@workers", "$title: no worker has died");
    ok(!$nginx->lines(qr/exited on signal/), "$title: nor did any before");
    ok(defined $nginx->quit, "$title: quit");
}

logs_clean();
done_testing();
