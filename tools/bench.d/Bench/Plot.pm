# Copyright (C) the agntkey authors
# SPDX-License-Identifier: BSD-2-Clause
#
# The comparison as a picture: a bar for the median, a line over it from the
# least to the most.

package Bench::Plot;

use strict;
use warnings;

use Bench::Report;

use constant {
    WIDTH => 1120, LEFT => 340, RIGHT => 280, TOP => 118, ROW => 40,
    BAR => 24, GAP => 52, BOTTOM => 76,
};

my %colour = (none => '#4b5563', peer => '#a8b3c2', ours => '#0f766e');


sub write {
    my ($file, $part) = @_;

    open my $out, '>', $file or die "$file: $!\n";
    print $out svg($part);
    close $out or die "$file: $!\n";
}


sub svg {
    my ($part) = @_;
    my @all = @{ $part->{variants} };
    my @groups = (
        ['a good key', sorted(grep { $_->{group} ne 'refusal' } @all)],
        ['refused with 401', sorted(grep { $_->{group} eq 'refusal' } @all)],
    );
    my ($most) = sort { $b <=> $a } map { $_->{rps}{max} } @all;
    my $scale = (WIDTH - LEFT - RIGHT) / $most;
    my $height = TOP + ROW * @all + GAP * (@groups - 1) + BOTTOM;
    my ($m, $s) = @{$part}{qw(machine settings)};

    my $svg = head($height)
        . text(40, 46, 'Requests per second through one nginx worker',
               'font-size="26" font-weight="600" fill="#111827"')
        . text(40, 74, "nginx $m->{nginx} on one core of $m->{cpu}, "
                       . "$s->{connections} connections, $s->{hot} keys, "
                       . 'a tiny picture behind each check',
               'font-size="15" fill="#4b5563"');
    my $y = TOP;

    for my $group (@groups) {
        my ($title, @rows) = @$group;

        $svg .= text(40, $y - 12, $title,
                     'font-size="13" font-weight="600" fill="#6b7280"');

        for my $row (@rows) {
            $svg .= bar($y, $row, $scale);
            $y += ROW;
        }

        $y += GAP;
    }

    return $svg . text(40, $height - 42,
        "Bars: median of $s->{rounds} interleaved rounds; lines: least to "
        . 'most; %: of no check in the same round. CPU: of the worker, for '
        . 'one request,', 'font-size="13" fill="#6b7280"')
        . text(40, $height - 23, 'with its system calls; what Redis and the '
        . "backend use comes on top. Redis $m->{redis}, $m->{kernel}. Made "
        . 'by make bench.', 'font-size="13" fill="#6b7280"')
        . "</svg>\n";
}


sub sorted { return sort { $b->{rps}{median} <=> $a->{rps}{median} } @_ }


sub head {
    my ($height) = @_;
    my $width = WIDTH;

    return <<"END";
<svg xmlns="http://www.w3.org/2000/svg" width="$width" height="$height"
     viewBox="0 0 $width $height"
     font-family="Inter, 'Helvetica Neue', Helvetica, Arial, sans-serif">
<rect width="$width" height="$height" fill="#ffffff"/>
END
}


sub bar {
    my ($y, $row, $scale) = @_;
    my ($median, $min, $max) = map { $row->{rps}{$_} * $scale }
                               qw(median min max);
    my $ours = $row->{title} =~ /^agntkey/;
    my $fill = $colour{ $ours ? 'ours'
                        : $row->{group} eq 'none' ? 'none' : 'peer' };
    my $middle = $y + BAR / 2;
    my $base = $middle + 5;
    my $line = sprintf '<path d="M%.1f %.1fH%.1fm0 -4v8M%.1f %.1fv8" '
                       . 'stroke="#111827" stroke-width="1.5" '
                       . 'fill="none"/>', LEFT + $min, $middle, LEFT + $max,
                       LEFT + $min, $middle - 4;
    my $rest = sprintf '%s%.1f µs CPU',
        $row->{id} eq 'none' ? '' : sprintf('%.0f %%  ·  ',
                                            100 * $row->{ratio}{median}),
        $row->{cpu_us}{median};
    my $x = LEFT + $max + 12;

    return text(LEFT - 14, $base, $row->{title},
                'font-size="15" text-anchor="end" fill="#111827"'
                . ($ours ? ' font-weight="600"' : ''))
        . sprintf('<rect x="%d" y="%.1f" width="%.1f" height="%d" rx="3" '
                  . "fill=\"%s\"/>\n", LEFT, $y, $median, BAR, $fill)
        . "$line\n"
        . text(sprintf('%.1f', $x), $base,
               Bench::Report::number($row->{rps}{median}, 0),
               'font-size="15" font-weight="600" fill="#111827"')
        . text(sprintf('%.1f', $x + 74), $base, $rest,
               'font-size="14" fill="#4b5563"');
}


sub text {
    my ($x, $y, $text, $style) = @_;
    my %escape = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;');

    $text =~ s/([&<>])/$escape{$1}/g;
    return "<text x=\"$x\" y=\"$y\" $style>$text</text>\n";
}

1;
