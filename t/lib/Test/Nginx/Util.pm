# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The server's half of the stand-in for Test::Nginx: settings, the
# configuration file, starting and stopping nginx, its logs.  Only what the
# suites of this project use; the names and the environment variables are
# those of the module on CPAN, so that a suite cannot tell the two apart.

package Test::Nginx::Util;

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Path qw(make_path remove_tree);
use File::Spec;
use IO::Socket::INET;
use List::Util qw(shuffle);
use POSIX ();
use Test::More ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
    add_block_preprocessor add_cleanup_handler add_test_cleanup_handler
    access_log_data bail_out check_accum_error_log config_preamble
    env_to_nginx error_log_data expand_env_in_text get_pid_from_pidfile
    html_dir is_running log_level master_off master_on
    master_process_enabled no_long_string no_nginx_manager
    no_root_location no_shuffle parse_headers parse_time repeat_each
    run_tests server_addr server_name server_port server_port_for_client
    server_root timeout trim use_hup worker_connections workers
    $ServerAddr $ServerName $ServerPort $ServerPortForClient
    $RunTestHelper $CheckErrorLog $RepeatEach $NginxVersion
    $PidFile $ServRoot $ConfFile
);

our $RepeatEach = 1;
our $NoShuffle = $ENV{TEST_NGINX_NO_SHUFFLE} || 0;
our $NoRootLocation = 0;
our $NoNginxManager = $ENV{TEST_NGINX_NO_NGINX_MANAGER} || 0;
our $CheckAccumErrLog = $ENV{TEST_NGINX_CHECK_ACCUM_ERR_LOG};
our $Verbose = $ENV{TEST_NGINX_VERBOSE};

our $NginxBinary = $ENV{TEST_NGINX_BINARY} || 'nginx';
our $LoadModules = $ENV{TEST_NGINX_LOAD_MODULES};
our $Workers = 1;
our $WorkerConnections = 64;
our $LogLevel = $ENV{TEST_NGINX_LOG_LEVEL} || 'debug';
our $MasterProcessEnabled = $ENV{TEST_NGINX_MASTER_PROCESS} || 'off';
our $Timeout = $ENV{TEST_NGINX_TIMEOUT} || 3;
our $TestNginxSleep = $ENV{TEST_NGINX_SLEEP} || 0.015;
our $ConfigPreamble = '';

our $ServerAddr = '127.0.0.1';
our $ServerName = 'localhost';
our $ServerPort = $ENV{TEST_NGINX_SERVER_PORT} || $ENV{TEST_NGINX_PORT}
                  || 1984;
our $ServerPortForClient = $ENV{TEST_NGINX_CLIENT_PORT} || $ServerPort;

our $ServRoot = File::Spec->rel2abs($ENV{TEST_NGINX_SERVROOT}
                                    || 't/servroot');
$ENV{TEST_NGINX_SERVER_ROOT} = $ServRoot;

our $LogDir = "$ServRoot/logs";
our $HtmlDir = "$ServRoot/html";
our $ConfDir = "$ServRoot/conf";
our $ConfFile = "$ConfDir/nginx.conf";
our $ErrLogFile = "$LogDir/error.log";
our $AccLogFile = "$LogDir/access.log";
our $PidFile = "$LogDir/nginx.pid";

our ($RunTestHelper, $CheckErrorLog, $CheckShutdownErrorLog);
our ($NginxVersion, $RandPorts, $PrevBlock, $PrevConfig);
our $ErrLogFilePos = 0;

our (@BlockPreprocessors, @CleanupHandlers, @TestCleanupHandlers);
our @EnvToNginx;

# A child that a suite forks must not stop the nginx of its parent.
my $owner = $$;


# --- settings

sub repeat_each (@) { $RepeatEach = shift if @_; $RepeatEach }
sub worker_connections (@) {
    $WorkerConnections = shift if @_;
    $WorkerConnections;
}
sub workers (@) { $Workers = shift if @_; $Workers }
sub log_level (@) { $LogLevel = shift if @_; $LogLevel }
sub timeout (@) { $Timeout = shift if @_; $Timeout }
sub server_addr (@) { $ServerAddr = shift if @_; $ServerAddr }
sub server_name (@) { $ServerName = shift if @_; $ServerName }
sub server_port (@) { $ServerPort = shift if @_; $ServerPort }
sub server_port_for_client (@) {
    $ServerPortForClient = shift if @_;
    $ServerPortForClient;
}

sub master_on () { $MasterProcessEnabled = 'on' }
sub master_off () { $MasterProcessEnabled = 'off' }
sub master_process_enabled (@) {
    $MasterProcessEnabled = shift() ? 'on' : 'off' if @_;
    $MasterProcessEnabled;
}

sub no_shuffle () { $NoShuffle = 1 }
sub no_long_string () { }
sub no_root_location () { $NoRootLocation = 1 }
sub no_nginx_manager () { $NoNginxManager = 1 }
sub check_accum_error_log () { $CheckAccumErrLog = 1 }
sub config_preamble ($) { $ConfigPreamble = shift }
sub server_root () { $ServRoot }
sub html_dir () { $HtmlDir }

sub use_hup () {
    die "use_hup() is not supported, every block starts its own nginx\n";
}

sub env_to_nginx (@) { push @EnvToNginx, @_ }
sub add_block_preprocessor (&) { unshift @BlockPreprocessors, shift }
sub add_cleanup_handler ($) { unshift @CleanupHandlers, shift }
sub add_test_cleanup_handler ($) { unshift @TestCleanupHandlers, shift }


# --- small tools

sub bail_out (@) {
    stop_nginx('bail out');
    Test::More::BAIL_OUT(join '', @_);
}


sub trim ($) {
    my ($s) = @_;

    return undef if !defined $s;

    $s =~ s/^\s+|\s+$//g;
    $s =~ s/\s+/ /g;
    return $s;
}


sub parse_time ($) {
    my ($time) = @_;

    return undef if !defined $time;
    return $1 / 1000 if $time =~ /^\s*([\d.]+)ms\s*$/;
    return $1 if $time =~ /^\s*([\d.]+)s?\s*$/;
    return $time;
}


# "Name: value" expects a header, "!Name" expects none of that name.

sub parse_headers ($) {
    my ($text) = @_;
    my %headers;

    for my $line (split /\n/, $text // '') {
        $line = trim($line);

        if ($line =~ s/^!\s*//) {
            $headers{$line} = undef;
            next;
        }

        my ($name, $value) = split /\s*:\s*/, $line, 2;
        $headers{$name // ''} = $value;
    }

    return \%headers;
}


sub random_port {
    my (%used) = @_;

    for (1 .. 1000) {
        my $port = 2000 + int rand 30000;
        next if $used{$port};

        my $sock = IO::Socket::INET->new(
            LocalAddr => $ServerAddr,
            LocalPort => $port,
            Proto     => 'tcp',
            Listen    => 1,
            ReuseAddr => 1,
        );
        return $port if $sock;
    }

    bail_out("no free port");
}


sub expand_env_in_text ($$$) {
    my ($text, $name, $ports) = @_;

    return undef if !defined $text;

    my $value = sub {
        my ($var) = @_;

        if ($var =~ /^TEST_NGINX_RAND_PORT_\d+$/) {
            my %used = map { $_ => 1 } $ServerPort, values %$ports;
            return $ports->{$var} //= random_port(%used);
        }

        bail_out("$name - no environment variable $var")
            if !defined $ENV{$var};
        return $ENV{$var};
    };

    $text =~ s/\$(TEST_NGINX_[A-Z0-9_]+)/$value->($1)/ge;
    return $text;
}


# --- processes

# A process that has ended and that nobody has reaped, as happens under an
# init which does not reap, counts as gone.

sub is_running ($) {
    my ($pid) = @_;

    return 0 if !$pid || !kill 0, $pid;

    if (open my $in, '<', "/proc/$pid/stat") {
        my $stat = <$in>;
        return 0 if defined $stat && $stat =~ /^\d+ \(.*\) [ZX]/s;
    }

    return 1;
}


sub wait_for {
    my ($seconds, $done) = @_;
    my $end = time + $seconds;

    until ($done->()) {
        return 0 if time > $end;
        sleep 0.005;
    }

    return 1;
}


sub read_file {
    my ($path) = @_;

    open my $in, '<', $path or return undef;
    binmode $in;
    local $/;
    return <$in>;
}


sub get_pid_from_pidfile ($) {
    my $pid = read_file($PidFile);

    return undef if !defined $pid;

    $pid =~ s/\s+//g;
    return $pid;
}


sub stop_nginx {
    my ($name) = @_;

    return if $$ != $owner || $NoNginxManager || !-f $PidFile;

    my $pid = get_pid_from_pidfile($name);
    my @workers = children($pid);

    if ($pid && is_running($pid)) {
        kill $ENV{TEST_NGINX_FAST_SHUTDOWN} ? 'TERM' : 'QUIT', $pid;

        if (!wait_for($Timeout, sub { !is_running($pid) })) {
            warn "$name - nginx $pid did not leave in time\n";

            # Workers of a killed master would keep the port.
            kill 'KILL', grep { is_running($_) } $pid, @workers;
            wait_for(5, sub { !grep { is_running($_) } $pid, @workers });
        }
    }

    unlink $PidFile;
}


sub children {
    my ($pid) = @_;

    return () if !$pid;

    my $list = read_file("/proc/$pid/task/$pid/children") // '';
    return split ' ', $list;
}


# --- logs

# What was logged since the last call.  nginx writes some lines only after
# it has closed the connection, hence the wait.

sub error_log_data () {
    sleep $TestNginxSleep * 3;

    open my $in, '<', $ErrLogFile or return undef;

    seek $in, $ErrLogFilePos, 0 if !$CheckAccumErrLog;
    my @lines = <$in>;
    $ErrLogFilePos = tell $in if !$CheckAccumErrLog;

    return \@lines;
}


sub access_log_data () {
    sleep $TestNginxSleep * 3;

    open my $in, '<', $AccLogFile or return undef;

    my @lines = <$in>;
    return \@lines;
}


# --- the server root

# Only what a server root has is removed: TEST_NGINX_SERVROOT may name a
# directory by mistake.

sub setup_server_root ($) {
    if (-d $ServRoot) {
        remove_tree($ConfDir, $HtmlDir, $LogDir, "$ServRoot/cache",
                    glob("$ServRoot/*_cache $ServRoot/*_temp"));
        rmdir $ServRoot
            or bail_out("cannot remove $ServRoot (not empty?): $!");
    }

    make_path($LogDir, $HtmlDir, $ConfDir);
    write_file("$HtmlDir/index.html",
               '<!DOCTYPE html><title>nginx</title><p>It works!');
}


sub write_file {
    my ($path, $text) = @_;

    open my $out, '>', $path or bail_out("cannot write $path: $!");
    binmode $out;
    print $out $text;
    close $out or bail_out("cannot write $path: $!");
}


sub write_user_files ($$) {
    my ($block, $ports) = @_;
    my $files = $block->user_files;

    return if !$files;

    if (!ref $files) {
        my @list;

        for my $line ($files =~ /^.*\n?/mg) {
            if ($line =~ />>> (\S+)/) {
                push @list, [$1, ''];

            } elsif (@list) {
                $list[-1][1] .= $line;
            }
        }

        $files = \@list;
    }

    for my $file (@$files) {
        my ($path, $body) = @$file;

        $path = "$HtmlDir/$path" if $path !~ m{^/};
        make_path($1) if $path =~ m{^(.+)/} && !-d $1;
        write_file($path,
                   expand_env_in_text($body // '', $block->name, $ports));
    }
}


sub write_config_file ($$$) {
    my ($block, $config, $ports) = @_;
    my $name = $block->name;

    my $expand = sub {
        return expand_env_in_text($_[0], $name, $ports) // '';
    };

    my $http_config = $expand->($block->http_config);
    my $main_config = $expand->($block->main_config);
    my $post_main_config = $expand->($block->post_main_config);
    my $error_log = $expand->($block->error_log_file) || $ErrLogFile;
    my $server_name = $block->server_name // $ServerName;

    my $modules = join ' ', map { "load_module $_;" }
                            split ' ', $LoadModules // '';

    my $env = join '', map { /\s/ ? "env '$_';\n" : "env $_;\n" }
                       qw(LD_PRELOAD LD_LIBRARY_PATH ASAN_OPTIONS
                          UBSAN_OPTIONS LSAN_OPTIONS), @EnvToNginx;

    my $user = $ENV{TEST_NGINX_WORKER_USER} // ($> == 0 ? 'root' : undef);
    $user = defined $user ? "user $user;" : '';

    my $temp_paths = join ' ',
        map { "${_}_temp_path $ServRoot/${_}_temp;" }
        grep { $http_config !~ /\b${_}_temp_path\b/ }
        qw(client_body proxy fastcgi scgi uwsgi);

    my $root_location = $NoRootLocation ? '' : <<_EOC_;
        location / {
            root $HtmlDir;
            index index.html index.htm;
        }
_EOC_

    write_file($ConfFile, <<_EOC_);
worker_processes $Workers;
daemon on;
master_process $MasterProcessEnabled;
error_log $error_log $LogLevel;
pid $PidFile;
$user
$env
$modules
$main_config

http {
    access_log $AccLogFile;
    $temp_paths

    default_type text/plain;
    keepalive_timeout 68s;

$http_config
    server {
        listen $ServerPort;
        server_name '$server_name';
        client_max_body_size 30M;

$ConfigPreamble
$config
$root_location
    }
}

$post_main_config

events {
    accept_mutex off;
    worker_connections $WorkerConnections;
}
_EOC_
}


# --- starting

sub nginx_command {
    my ($block) = @_;
    my $cmd = "$NginxBinary -e $ErrLogFile -p $ServRoot/ -c $ConfFile"
              . " >/dev/null";

    $cmd .= ' 2>/dev/null' if defined $block->suppress_stderr;
    return $cmd;
}


sub start_nginx {
    my ($block) = @_;
    my $name = $block->name;
    my $cmd = nginx_command($block);
    my $end = time + 15;

    for ( ;; ) {
        system $cmd;
        last if $? == 0;

        my $log = read_file($ErrLogFile) // '';

        # The port of the block before may need a moment to come free.
        if ($log !~ /still could not bind|Address already in use/
            || time > $end)
        {
            Test::More::diag($log);
            bail_out("$name - cannot start nginx: \"$cmd\" (status $?)");
        }

        sleep 0.1;
    }

    # The parent leaves before the daemon writes its pid.
    wait_for(10, sub { get_pid_from_pidfile($name) })
        or bail_out("$name - nginx did not write $PidFile");
}


# A block with "must_die": one test for the exit of nginx, then its log.

sub run_must_die {
    my ($block) = @_;
    my $name = $block->name;
    my $expected = $block->must_die;
    my $cmd = nginx_command($block);

    for my $i (0 .. $RepeatEach - 1) {
        system $cmd;
        my $status = $?;

        if ($status == -1 || $status & 255) {
            Test::More::fail("$name - nginx exits by itself");
            Test::More::diag("status $status of \"$cmd\"");

        } elsif ($expected =~ /^\s*\d+\s*$/) {
            Test::More::is($status >> 8, trim($expected),
                           "$name - exit code of nginx");

        } else {
            Test::More::isnt($status, 0, "$name - nginx refuses to start");
        }

        $CheckErrorLog->($block, undef, 0, $i, 0);

        if ($status == 0) {
            wait_for(5, sub { get_pid_from_pidfile($name) });
            stop_nginx($name);
        }
    }
}


# --- running the blocks

sub nginx_version {
    my $text = `$NginxBinary -V 2>&1`;

    bail_out("cannot run $NginxBinary") if !defined $text || $? != 0;

    return sprintf '%d.%03d%03d', $1, $2, $3
        if $text =~ m{\w/(\d+)\.(\d+)\.(\d+)};
    bail_out("no version in the output of $NginxBinary -V");
}


# How many tests a block wants to be left out, and why; or nothing.

sub skip_reason {
    my ($block) = @_;
    my $name = $block->name;

    if (defined(my $spec = $block->skip_eval)) {
        my ($n, $code) = $spec =~ /^\s*(\d+)\s*:\s*(.*)/s
            or bail_out("$name - invalid skip_eval: $spec");
        my $skip = eval $code;
        bail_out("$name - skip_eval: $@") if $@;
        return ($n, 'skip_eval') if $skip;
    }

    if (defined(my $spec = $block->skip_nginx)) {
        my ($n, $op, @v) = $spec
            =~ /^\s*(\d+)\s*:\s*([<>]=?)\s*(\d+)\.(\d+)\.(\d+)/
            or bail_out("$name - invalid skip_nginx: $spec");

        my $version = sprintf '%d.%03d%03d', @v;
        my $cmp = $NginxVersion <=> $version;
        my $match = $op eq '<' ? $cmp < 0 : $op eq '<=' ? $cmp <= 0
                  : $op eq '>' ? $cmp > 0 : $cmp >= 0;
        return ($n, trim($spec)) if $match;
    }

    return ();
}


sub eval_section {
    my ($block, $section) = @_;
    my $code = $block->$section;

    return if !$code;

    eval $code;
    bail_out($block->name . " - $section failed: $@") if $@;
}


sub run_test ($) {
    my ($block) = @_;
    my $name = $block->name;

    return if defined $block->SKIP;

    local $LogLevel = $block->log_level ? trim($block->log_level)
                                        : $LogLevel;

    $RandPorts = {};
    $ErrLogFilePos = 0;

    my ($skip, $reason) = skip_reason($block);

    if ($skip) {
        for (1 .. $RepeatEach) {
            SKIP: { Test::More::skip("$name - $reason", $skip) }
        }
        return;
    }

    my $config = expand_env_in_text($block->config, $name, $RandPorts);
    $config //= $PrevConfig // bail_out("$name - no --- config section");
    $PrevConfig = $config;

    if (!$NoNginxManager) {
        stop_nginx($name);
        check_shutdown();

        setup_server_root(0);
        eval_section($block, 'post_setup_server_root');
        write_user_files($block, $RandPorts);
        write_config_file($block, $config, $RandPorts);

        return run_must_die($block) if defined $block->must_die;

        start_nginx($block);
    }

    eval_section($block, 'init');

    for my $i (1 .. $RepeatEach) {
        write_user_files($block, $RandPorts) if $i > 1;
        $RunTestHelper->($block, 0, $i - 1);
    }

    collect_error_log($name);
}


sub check_shutdown {
    my $block = $PrevBlock;

    return if !$block || !$CheckShutdownErrorLog;

    undef $PrevBlock;
    $CheckShutdownErrorLog->($block);
}


# TEST_NGINX_ERROR_LOG names a file that keeps the logs of all blocks.

sub collect_error_log {
    my ($name) = @_;
    my $total = $ENV{TEST_NGINX_ERROR_LOG};

    return if !$total || !-s $ErrLogFile;

    open my $out, '>>', $total or bail_out("cannot append to $total: $!");
    print $out "\n=== $0 $name\n", read_file($ErrLogFile);
    close $out;
}


sub run_tests () {
    $NginxVersion = nginx_version();
    $ENV{TEST_NGINX_SERVER_PORT} //= $ServerPort;

    my @blocks = Test::Base::blocks();
    @blocks = shuffle(@blocks) if !$NoShuffle;

    for my $block (@blocks) {
        $_->($block) for @BlockPreprocessors;

        $block->set_value('name', "$0 " . $block->name);

        run_test($block);
        $_->($block) for @TestCleanupHandlers;

        $PrevBlock = $block;
    }

    $_->() for @CleanupHandlers;
}


END {
    if ($$ == $owner) {
        local ($?, $!);

        stop_nginx('END') if !$ENV{TEST_NGINX_NO_CLEAN};
        check_shutdown();
    }
}

1;
