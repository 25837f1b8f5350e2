# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Keys for the suites.  A key is derived from a label, so that it is the same
# throughout a run and that no clear key is written down in the repository:
#
#     <prefix>_ <tag: 4> <random: 8> <secret: 32> <check: 6>
#               `------- id -------'

package Agntkey::Key;

use strict;
use warnings;

use Digest::SHA qw(sha256 sha256_hex);
use Exporter 'import';

our @EXPORT = qw(
    base62 crc32 key_digest key_for key_id key_records key_secret
    key_without_check with_check workspace_records workspace_tag
);

my @digits = (0 .. 9, 'A' .. 'Z', 'a' .. 'z');

# Every key that was made: none of them may turn up in a log.
our %made;


sub base62 {
    my ($number, $width) = @_;
    my $text = '';

    for (1 .. $width) {
        $text = $digits[$number % 62] . $text;
        $number = int($number / 62);
    }

    return $text;
}


# CRC-32 as in IEEE 802.3, a bit at a time.

sub crc32 {
    my ($text) = @_;
    my $crc = 0xffffffff;

    for my $byte (unpack 'C*', $text) {
        $crc ^= $byte;
        $crc = $crc & 1 ? $crc >> 1 ^ 0xedb88320 : $crc >> 1 for 1 .. 8;
    }

    return $crc ^ 0xffffffff;
}


# Byte by byte modulo 62^4: 64 bits are too many for some perls.

sub workspace_tag {
    my ($workspace) = @_;
    my $n = 0;

    for my $byte (unpack 'C8', sha256($workspace)) {
        $n = ($n * 256 + $byte) % 62 ** 4;
    }

    return base62($n, 4);
}


# Uniform characters; a byte of 248 or more would favour the first eight.

sub derive {
    my ($label, $length) = @_;
    my $text = '';

    for (my $i = 0; length $text < $length; $i++) {
        for my $byte (unpack 'C*', sha256("$i/$label")) {
            $text .= $digits[$byte % 62] if $byte < 248;
        }
    }

    return substr $text, 0, $length;
}


# with_check($text): the text, and the check that it should have.

sub with_check {
    my ($text) = @_;
    my $key = $text . base62(crc32($text), 6);

    $made{$key} = 1;
    return $key;
}


# key_for($label, workspace => 'acme', prefix => 'agnt',
#         id => 12 characters, secret => 32 characters)

sub key_for {
    my ($label, %opt) = @_;
    my $workspace = $opt{workspace} // 'acme';
    my $prefix = $opt{prefix} // 'agnt';

    my $id = $opt{id} // workspace_tag($workspace)
                         . derive("id/$workspace/$label", 8);
    my $secret = $opt{secret} // derive("secret/$workspace/$label", 32);

    return with_check("${prefix}_$id$secret");
}


sub key_id { return substr $_[0], -50, 12 }
sub key_secret { return substr $_[0], -38, 32 }
sub key_without_check { return substr $_[0], 0, -6 }
sub key_digest { return sha256_hex($_[0]) }


# What Redis holds for a key: ({ name of a hash => { field => value } }, and
# { name of a sorted set => { member => score } }).  A field given as undef
# is left out; "fields" adds any others, or replaces those.

sub key_records {
    my ($key, %opt) = @_;
    my $workspace = $opt{workspace} // 'acme';
    my $id = key_id($key);
    my ($tag, $random) = unpack 'a4 a8', $id;
    my $created = $opt{created_at} // 1700000000000;

    my %fields = (
        digest     => key_digest($key),
        active     => exists $opt{active} ? $opt{active} : 1,
        workspace  => $workspace,
        name       => $opt{name} // 'a key',
        scopes     => $opt{scopes} // '',
        created_at => $created,
        expires_at => $opt{expires_at},
        revoked_at => $opt{revoked_at},
        %{ $opt{fields} // {} },
    );

    delete @fields{ grep { !defined $fields{$_} } keys %fields };

    return ({ "agntkey:key:{$tag}$random" => \%fields },
            { "agntkey:index:{" . workspace_tag($workspace) . "}$workspace"
              => { $id => $created } });
}


sub workspace_records {
    my ($workspace, %opt) = @_;
    my $tag = workspace_tag($workspace);

    my %fields = (
        active     => exists $opt{active} ? $opt{active} : 1,
        created_at => $opt{created_at} // 1700000000000,
        %{ $opt{fields} // {} },
    );

    delete @fields{ grep { !defined $fields{$_} } keys %fields };

    return ({ "agntkey:workspace:{$tag}$workspace" => \%fields },
            { 'agntkey:workspaces' => { $workspace => 0 } });
}

1;
