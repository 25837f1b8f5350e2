# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Everything that is measured, and what measures it: the variants, a private
# Redis, the backend of auth_request, nginx with the cache and without, and
# who runs on which core.

package Bench::Setup;

use strict;
use warnings;

use File::Path qw(make_path);

use Agntkey::Redis;
use Bench::Client;
use Bench::Keys;
use Bench::Nginx;

# as many as the map and the backend have in memory
use constant STATIC_KEYS => 10_000;

# "nginx" is the instance that it runs in; "list" the keys that come.

our @variants = (
    { id => 'none', title => 'no check', path => '/none',
      list => 'good', code => 200, group => 'none' },
    { id => 'map', title => 'nginx map, 10,000 static keys', path => '/map',
      list => 'good', code => 200, bad => 401, group => 'peer' },
    { id => 'auth_request', title => 'auth_request, local backend',
      path => '/auth_request', list => 'good', code => 200, bad => 401,
      group => 'peer' },
    { id => 'lua_redis', title => 'Lua, lua-resty-redis',
      path => '/lua_redis', list => 'good', code => 200, bad => 401,
      group => 'peer' },
    { id => 'lua_dict', title => 'Lua, shared dictionary (60 s)',
      path => '/lua_dict', list => 'good', code => 200, bad => 401,
      group => 'peer' },
    { id => 'agntkey_off', title => 'agntkey, cache off',
      path => '/agntkey', list => 'good', code => 200, bad => 401,
      group => 'agntkey' },
    { id => 'agntkey_cached', title => 'agntkey, cached', nginx => 'cached',
      path => '/agntkey', list => 'good', code => 200, bad => 401,
      group => 'agntkey' },
    { id => 'return', title => 'nginx return 401', path => '/return',
      list => 'malformed', code => 401, group => 'refusal' },
    { id => 'missing', title => 'agntkey, no key', path => '/agntkey',
      list => 'missing', code => 401, group => 'refusal' },
    { id => 'malformed', title => 'agntkey, malformed key',
      path => '/agntkey', list => 'malformed', code => 401,
      group => 'refusal' },
    { id => 'unknown', title => 'agntkey, unknown key, cache off',
      path => '/agntkey', list => 'unknown', code => 401,
      group => 'refusal' },
    { id => 'unknown_cached', title => 'agntkey, unknown key, cached',
      nginx => 'cached', path => '/agntkey', list => 'unknown', code => 401,
      group => 'refusal' },
);


# new(top =>, dir =>, hot => keys in use): Redis and the backend run.

sub new {
    my ($class, %opt) = @_;
    my $self = bless {
        %opt, lists => "$opt{dir}/lists", notes => [],
    }, $class;

    make_path($self->{lists});
    $self->{cores} = cores();

    $self->{keys} = Bench::Keys->new(join '-', $$, time);
    $self->write_lists;

    $self->{redis} = Agntkey::Redis->new(
        dir => "$self->{dir}/redis", port => Bench::Nginx::free_port(),
    )->start;
    pin($self->{redis}->pid, $self->{cores}{redis});
    $self->{keys}->load($self->{redis}, STATIC_KEYS);

    $self->{backend} = Bench::Nginx->new(
        dir      => "$self->{dir}/backend",
        template => "$self->{top}/tools/bench.d/backend.conf.in",
        core     => $self->{cores}{backend},
        vars     => { map => "$self->{lists}/map" },
    )->start;

    $self->find_cache;
    $self->note_load;
    return $self;
}


# Which core is for whom; undef where there is but one.

sub cores {
    open my $in, '<', '/proc/self/status' or die "/proc/self/status: $!\n";
    my ($list) = map { /^Cpus_allowed_list:\s*(\S+)/ ? $1 : () } <$in>;
    my @cores = map { /(\d+)-(\d+)/ ? $1 .. $2 : $_ } split /,/, $list;

    return { all => 1 } if @cores == 1;

    return {
        all     => scalar @cores,
        worker  => $cores[0],
        wrk     => $cores[1],
        redis   => $cores[2] // $cores[1],
        backend => $cores[3] // $cores[2] // $cores[1],
    };
}


sub pin {
    my ($pid, $core) = @_;

    return if !defined $core;
    system("taskset -a -cp $core $pid > /dev/null") == 0
        or die "taskset failed\n";
}


sub write_lists {
    my ($self) = @_;
    my ($keys, $dir) = @{$self}{qw(keys lists)};

    $keys->write_map("$dir/map", STATIC_KEYS);
    $keys->write_list("$dir/good", 'key', 0, $self->{hot});
    $keys->write_list("$dir/malformed", 'malformed', 0, $self->{hot});
    $keys->write_list("$dir/unknown", 'unknown', 0, $self->{hot});

    open my $out, '>', "$dir/missing" or die "$dir/missing: $!\n";
    print $out "\n";
    close $out;
}


# An nginx of one worker, or with "workers"; cache => 'off' or its parameters.

sub nginx {
    my ($self, $name, %opt) = @_;
    my $cache = delete $opt{cache} // 'off';
    my $core = exists $opt{core} ? delete $opt{core} : $self->{cores}{worker};
    my $under = delete $opt{under} // [];

    return Bench::Nginx->new(
        dir      => "$self->{dir}/$name",
        template => "$self->{top}/tools/bench.d/nginx.conf.in",
        core     => $core,
        under    => $under,
        vars     => {
            agntkey => "$self->{build}/ngx_http_agntkey_module.so",
            modules => modules(),
            lua     => "$self->{top}/tools/bench.d",
            redis   => $self->{redis}->port,
            backend => $self->{backend}->port,
            map     => "$self->{lists}/map",
            cache   => $self->{no_cache} ? '' : "agntkey_cache $cache;",
            %opt,
        },
    );
}


sub modules {
    my ($path) = qx{@{[Bench::Nginx::binary()]} -V 2>&1}
                 =~ /--modules-path=(\S+)/;
    return $path // '/usr/lib/nginx/modules';
}


# A module from before there was a cache asks Redis for every request.

sub find_cache {
    my ($self) = @_;
    my $said = $self->nginx('find', cache => 'off')->complaint;

    if ($said =~ /unknown directive "agntkey_cache"/) {
        $self->{no_cache} = 1;
        push @{ $self->{notes} }, 'this module has no agntkey_cache: what '
                                  . 'needs the cache is left out';
        $said = $self->nginx('find')->complaint;
    }

    die "nginx does not take the configuration:\n$said" if $said ne '';
}


# Whoever else is at work here takes from what is measured.

sub note_load {
    my ($self) = @_;

    open my $in, '<', '/proc/loadavg' or return;
    my ($load) = <$in> =~ /^(\S+)/;
    $self->{load} = $load;

    push @{ $self->{notes} }, "the load is $load already: figures will be "
                              . 'worse than this machine can do'
        if $load > $self->{cores}{all} / 2;
}


sub variants {
    my ($self) = @_;
    return grep { !$self->{no_cache} || ($_->{nginx} // '') ne 'cached' }
                @variants;
}


sub variant { return (grep { $_->{id} eq $_[1] } $_[0]->variants)[0] }

# what an nginx needs for this variant

sub cache_of {
    my ($self, $variant) = @_;
    return ($variant->{nginx} // '') eq 'cached' ? 'entries=10000' : 'off';
}


# --- is each as it should be?

sub first_line {
    my ($self, $list) = @_;

    open my $in, '<', "$self->{lists}/$list" or die "$list: $!\n";
    chomp(my $line = <$in> // '');
    return $line;
}


# Dies unless a variant lets in whom it should, and nobody else.

sub check {
    my ($self, $nginx, $variant) = @_;
    my $client = Bench::Client->new($nginx->port);
    my @asked = ([$variant->{list}, $variant->{code}]);

    if ($variant->{bad}) {
        push @asked, map { [$_, $variant->{bad}] } qw(unknown missing);
    }

    # what answers at first may be remembered the second time
    for my $asked (@asked, @asked) {
        my ($list, $want) = @$asked;
        my $code = $client->ask(Bench::Client::text(
            $variant->{path}, $self->first_line($list)
        ));

        die "$variant->{title}: $code for a key that is $list, "
            . "instead of $want\n", $nginx->log if $code ne $want;
    }
}

1;
