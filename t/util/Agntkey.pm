# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# What the suites have in common: keys, a Redis of their own, a Redis that
# misbehaves on demand, and the check that every log stayed clean.
#
#     use lib 't/util';
#     use Agntkey;
#     use Test::Nginx::Socket 'no_plan';
#
# In this order: Agntkey chooses the ports and directories that the other
# reads when it is loaded.  All of a suite's files are in one directory
# under build/t, which goes when the suite passed and stays when it failed.

package Agntkey;

use strict;
use warnings;

use Cwd ();
use File::Basename ();
use File::Path ();
use File::Spec;
use IO::Socket::INET;
use Test::Builder;

use Agntkey::Client;
use Agntkey::Fake;
use Agntkey::Key;
use Agntkey::Proxy;
use Agntkey::Redis;

our @EXPORT = (@Agntkey::Key::EXPORT, @Agntkey::Client::EXPORT, qw(
    active_connections answer_is ask ask_start bearer count_is fake_close fake_commands fake_connections fake_invalidate
    fake_redis fake_release fake_send fake_stop fake_wait free_port
    is_true log_lines log_wait logs_clean proxy redis redis_cmd redis_commands_count redis_empty redis_restart
    redis_rules redis_server redis_start redis_stop redis_version
    registry_is_old seed_key seed_workspace test_dir wait_until watch_logs
));

my $owner = $$;
my ($dir, $redis, %ports);


# The names are needed where blocks are evaluated too: the filter "eval" and
# the section "init" run in packages of the harness.

sub import {
    my $caller = caller;

    for my $package ($caller, 'Test::Base::Filter', 'Test::Nginx::Util') {
        no strict 'refs';
        *{"${package}::$_"} = \&$_ for @EXPORT;
    }

    setup();
}


# --- ports and directories

# Below the range that the system takes ports from for outgoing connections:
# such a one could sit on the port before its server does.

sub free_port {
    for (1 .. 1000) {
        my $port = 10000 + int rand 20000;
        next if $ports{$port}++;

        my $sock = IO::Socket::INET->new(
            LocalAddr => '127.0.0.1',
            LocalPort => $port,
            Proto     => 'tcp',
            Listen    => 1,
        );
        return $port if $sock;
    }

    die "no free port\n";
}


sub build_dir {
    return File::Spec->rel2abs($ENV{BUILD_DIR} // 'build');
}


sub test_dir { return $dir }


# What the environment already says is kept.

sub setup {
    return if defined $dir;

    srand($$ ^ time);

    # An interrupted suite runs its END blocks too.
    $SIG{$_} //= sub { exit 1 } for qw(INT TERM HUP);

    my $suite = File::Basename::basename($0, '.t');
    my $module = build_dir() . '/ngx_http_agntkey_module.so';

    $dir = build_dir() . "/t/$suite-$$";
    File::Path::make_path($dir);

    $ENV{TEST_NGINX_TEST_DIR} = $dir;
    $ENV{TEST_NGINX_SERVROOT} //= "$dir/servroot";
    $ENV{TEST_NGINX_PORT} //= free_port();
    $ENV{TEST_NGINX_LOAD_MODULES} //= $module if -f $module;

    # Known before anything runs there, since configurations name them.
    $ENV{TEST_NGINX_REDIS_PORT} = free_port();
    $ENV{TEST_NGINX_REDIS_TLS_PORT} = free_port();
    $ENV{TEST_NGINX_REDIS_SOCK} = "$dir/redis/redis.sock";
    $ENV{TEST_NGINX_FAKE_PORT} = free_port();
    $ENV{TEST_NGINX_PROXY_PORT} = free_port();
    $ENV{TEST_NGINX_CLOSED_PORT} = free_port();
}


END {
    if ($$ == $owner && defined $dir) {
        local ($?, $!);

        Agntkey::Nginx::stop_all() if Agntkey::Nginx->can('stop_all');
        $_->stop for grep { defined } $redis;
        fake_stop();

        my $test = Test::Builder->new;
        chdir '/';
        File::Path::remove_tree($dir)
            if $test->is_passing && !$ENV{TEST_NGINX_NO_CLEAN};
    }
}


# --- Redis

# redis_server(name => 'replica', port => N, tls => 1, args => [...]): one
# more server, running.

sub redis_server {
    my (%opt) = @_;
    my $name = delete $opt{name} // 'redis-' . ++$ports{count};

    $opt{tls_port} //= free_port() if delete $opt{tls};

    return Agntkey::Redis->new(
        dir => "$dir/$name", port => free_port(), %opt)->start;
}


# redis_start(tls => 1, args => [...]): the suite's own Redis; the options
# count the first time.

sub redis_start {
    my (%opt) = @_;

    return $redis->start if $redis;

    $redis = Agntkey::Redis->new(
        dir      => "$dir/redis",
        port     => $ENV{TEST_NGINX_REDIS_PORT},
        tls_port => $opt{tls} ? $ENV{TEST_NGINX_REDIS_TLS_PORT} : undef,
        args     => $opt{args} // [],
    );

    $ENV{TEST_NGINX_REDIS_SOCK} = $redis->sock;

    if ($opt{tls}) {
        my $tls = $redis->certificates;

        $ENV{TEST_NGINX_REDIS_CA} = $tls->{ca};
        $ENV{TEST_NGINX_REDIS_CLIENT_CERT} = $tls->{client_cert};
        $ENV{TEST_NGINX_REDIS_CLIENT_KEY} = $tls->{client_key};
    }

    $redis->start;

    # One with a password has to be told otherwise.
    eval { registry_is_old() };
    return $redis;
}


sub redis { return $redis // redis_start() }
sub redis_cmd { return redis()->cmd(@_) }

# Empties Redis, and leaves the mark of one that has known its workers for ever:
# of any other a revocation has reason to wait for the leases that it may not
# know of.

sub redis_empty {
    redis_cmd('FLUSHALL');
    registry_is_old();
}

sub registry_is_old {
    my ($redis) = @_;

    $redis //= redis();

    my ($id) = $redis->cmd('INFO', 'replication') =~ /master_replid:(\w+)/;
    $redis->cmd('SET', 'agntkey:registry', "$id 0 2000");
}

sub redis_stop { return redis()->stop(@_) }
sub redis_restart { return redis()->restart(@_) }


sub redis_version { return Agntkey::Redis::version() }


# Rules of ACL SETUSER as the server knows them.  Version 6.2 has no rights to
# read or to write only, and lets a new user use all channels.

sub redis_rules {
    my (@rules) = @_;

    return @rules if redis_version() >= 7;

    s/^%[RW]+~/~/ for @rules;
    return map { $_ eq 'reset' ? ($_, 'resetchannels') : $_ } @rules;
}


# How often Redis ran one of the commands, from whichever client, since it
# started or since CONFIG RESETSTAT; without names, those that look up data.

sub redis_commands_count {
    my %names = map { lc $_ => 1 }
                @_ ? @_ : qw(hget hmget hgetall exists get type eval evalsha
                             evalsha_ro eval_ro fcall fcall_ro);
    my $count = 0;

    for my $line (split /\r\n/, redis_cmd('INFO', 'commandstats')) {
        $count += $2 if $line =~ /^cmdstat_([^:]+):calls=(\d+)/
                        && $names{$1};
    }

    return $count;
}


# proxy(to => port of the suite's Redis, port => TEST_NGINX_PROXY_PORT): see
# Agntkey::Proxy.  More than one need ports of their own.

sub proxy {
    my (%opt) = @_;

    return Agntkey::Proxy->new(to => $ENV{TEST_NGINX_REDIS_PORT},
                               port => $ENV{TEST_NGINX_PROXY_PORT}, %opt);
}


# --- records

sub write_records {
    my ($hashes, $sets) = @_;
    my @commands;

    for my $key (sort keys %$hashes) {
        push @commands, ['DEL', $key];
        push @commands, ['HSET', $key, %{ $hashes->{$key} }]
            if %{ $hashes->{$key} };
    }

    for my $key (sort keys %$sets) {
        push @commands, ['ZADD', $key, reverse %{ $sets->{$key} }];
    }

    for my $answer (redis()->pipeline(@commands)) {
        die "$answer->{error}\n" if ref $answer eq 'HASH';
    }
}


# seed_workspace('acme', active => undef): undef leaves the field out.

sub seed_workspace {
    my ($workspace, %opt) = @_;

    write_records(workspace_records($workspace, %opt));
    return $workspace;
}


# seed_key($label, workspace =>, prefix =>, name =>, scopes =>, active =>,
#          created_at =>, expires_at =>, revoked_at =>, fields => {...}):
# the key, with its record written; its workspace comes into being with it,
# unless it is there or "no_workspace" is given.

sub seed_key {
    my ($label, %opt) = @_;
    my $workspace = $opt{workspace} // 'acme';
    my $key = key_for($label, %opt);

    write_records(key_records($key, %opt));

    my ($record) = keys %{ (workspace_records($workspace))[0] };

    seed_workspace($workspace)
        if !$opt{no_workspace} && !redis_cmd('EXISTS', $record);

    return $key;
}


sub bearer { return "Authorization: Bearer $_[0]" }


# --- asking nginx, and what it is to answer

# ask('one', %opt of http()): GET /t with the key of that label.

sub ask {
    my ($label, %opt) = @_;
    return ask_start($label, %opt)->response($opt{timeout});
}


sub ask_start {
    my ($label, %opt) = @_;
    my $line = delete $opt{line} // 'GET /t';
    my @more = ref $opt{headers} ? @{ $opt{headers} } : $opt{headers} // ();

    return http_start($line, %opt,
                      headers => [bearer(key_for($label)), @more]);
}


# answer_is($response, '401 unknown', $title): the code, the reason behind
# it, and what belongs to a 503 whatever has caused it.

sub answer_is {
    my ($res, $want, $title) = @_;
    my ($code, $reason) = split / /, $want;
    my $test = Test::Builder->new;
    my $headers = $res->{headers};
    my @wrong;

    $reason //= 'store_unavailable' if $code eq '503';

    push @wrong, $res->{timeout} ? 'no answer' : "code \"$res->{code}\""
        if $res->{code} ne $code;

    push @wrong, "no reason \"$reason\""
        if defined $reason && $res->{body} !~ /"code":\s*"\Q$reason\E"/;

    if ($code eq '503') {
        push @wrong, 'no Retry-After'
            if ($headers->{'retry-after'} // '') !~ /^[1-9]\d*$/;
        push @wrong, 'a challenge' if exists $headers->{'www-authenticate'};
    }

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    return 1 if $test->ok(!@wrong, $title);

    $test->diag(join ', ', @wrong);
    $test->diag($res->{raw} =~ s/[^\n -~]//gr);
    return 0;
}


# For the code of an "init" section, which has no Test::More to hand.

sub is_true {
    my ($ok, $title, @diag) = @_;
    my $test = Test::Builder->new;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    $test->ok($ok, $title) or $test->diag(@diag);
    return $ok;
}


sub count_is {
    my ($got, $want, $title, @diag) = @_;
    my $test = Test::Builder->new;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    $test->is_num($got, $want, $title) or $test->diag(@diag);
    return $got == $want;
}


# Of a location /status with stub_status: all but the one that asks.

sub active_connections {
    my (%opt) = @_;
    my $res = http('GET /status', %opt);

    die "no stub_status:\n$res->{raw}"
        if $res->{body} !~ /^Active connections: (\d+)/;
    return $1 - 1;
}


# True as soon as the function returns something true, false when it has
# not within so many seconds.

sub wait_until {
    my ($seconds, $code) = @_;
    my $end = time + $seconds;

    for ( ;; ) {
        my $result = $code->();

        return $result if $result;
        return 0 if time > $end;
        select undef, undef, undef, 0.01;
    }
}


# --- the fake Redis, see Agntkey::Fake

sub fake_redis { return Agntkey::Fake::start(@_) }
sub fake_stop { return Agntkey::Fake::stop(@_) }
sub fake_commands { return Agntkey::Fake::commands(@_) }
sub fake_connections { return Agntkey::Fake::connections(@_) }
sub fake_wait { return Agntkey::Fake::wait_for(@_) }
sub fake_release { return Agntkey::Fake::release(@_) }
sub fake_send { return Agntkey::Fake::send_to(@_) }
sub fake_close { return Agntkey::Fake::close_conn(@_) }
sub fake_invalidate { return Agntkey::Fake::invalidate(@_) }


# --- logs

# log_lines(qr/is away/): those lines of the error log of the nginx that runs
# now; debug messages, of more than one line some, do not count.

sub log_lines {
    my ($match, $file) = @_;

    $file //= "$ENV{TEST_NGINX_SERVROOT}/logs/error.log";

    open my $in, '<', $file or return ();
    return grep { m{^\d+/\d\d/\d\d [\d:]+ \[(?!debug)} && /$match/ } <$in>;
}


# log_wait(qr/is back/, 1, 10): true as soon as so many lines are there.

sub log_wait {
    my ($match, $n, $seconds, $file) = @_;

    return wait_until($seconds // 10,
                      sub { log_lines($match, $file) >= ($n // 1) });
}


my (%watch, @offences, $log);

# watch_logs(allow => qr/.../, strip => qr/.../): from now on the logs of
# every block are read for what must never be there; logs_clean(), after
# run_tests(), is the test.  A line that "allow" matches may be an alert, but
# have no key in it; what "strip" matches does not count at all, such as
# the request that nginx itself adds to a line.

sub watch { %watch = @_ }


sub watch_logs {
    watch(@_);
    Test::Nginx::Socket::add_test_cleanup_handler(\&read_logs);
}


# The old logs are removed before the next nginx starts; a handle on them
# still shows what the old nginx wrote while it left.

sub read_logs {
    my ($block) = @_;

    open_logs($block->name, Test::Nginx::Socket::server_root());
}


sub open_logs {
    my ($name, $root) = @_;

    finish_log();

    $log = { name => $name, files => [] };

    for my $file (glob "$root/logs/*") {
        next if $file =~ /\.pid$/ || !-f $file;
        open my $in, '<', $file or next;
        push @{ $log->{files} }, { in => $in, debug => 0 };
    }

    scan_log();
}


sub finish_log {
    scan_log() if $log;
    undef $log;
}


sub scan_log {
    my $keys = join '|', map { quotemeta } sort keys %Agntkey::Key::made;
    my $bad = qr/\[(?:alert|emerg)\]|Sanitizer|: runtime error: |Assertion/;

    for my $file (@{ $log->{files} }) {
        my $in = $file->{in};

        seek $in, 0, 1;

        while (my $line = <$in>) {
            # nginx's own debug lines, of more than one line some, dump
            # what a client sent; ours may not.
            $file->{debug} = $1 eq 'debug' && $line !~ /\d: (?:\*\d+ )?agnt/
                if $line =~ m{^\d+/\d\d/\d\d [\d:]+ \[(\w+)\]};

            $line =~ s/$watch{strip}//g if defined $watch{strip};

            my $clear = !$file->{debug} && $keys ne '' && $line =~ $keys;
            my $allowed = defined $watch{allow} && $line =~ $watch{allow};

            push @offences, "$log->{name}: $line"
                if $clear || !$allowed && $line =~ $bad;
        }
    }
}


# Stops nginx first, which says most of what it has to say at its end.

sub logs_clean {
    my $test = Test::Builder->new;

    stop_last_nginx() if Test::Nginx::Socket->can('server_root');
    finish_log();

    $test->ok(!@offences, 'no alert, sanitizer report or key in any log');
    $test->diag(splice @offences, 0, 20) if @offences;
}


sub stop_last_nginx {
    my $root = Test::Nginx::Socket::server_root();

    open my $in, '<', "$root/logs/nginx.pid" or return;
    my $pid = <$in> // '';
    close $in;

    return if $pid !~ /^(\d+)/;

    kill 'QUIT', $1;

    # nginx removes the file as the last thing it does.
    for (1 .. 500) {
        last if !-f "$root/logs/nginx.pid";
        select undef, undef, undef, 0.01;
    }
}

1;
