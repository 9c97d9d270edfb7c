//! Boxes in layers, and curves between them that run through no box.
//!
//! Each box gets a layer below its inputs, where a line that is on its way to a deeper layer has a
//! place of its own; the places of a layer are ordered so that few lines cross and then moved to
//! where the lines are straight.

/// Between the boxes of a layer.
const GAP: f64 = 28.0;
/// Between a line that passes and what is beside it.
const LANE: f64 = 14.0;
/// Between two layers; more where lines go far to the side.
const DROP: f64 = 40.0;
const MOST_DROP: f64 = 110.0;
/// Between the lines that enter a box, and between them and its corners.
const PORT: f64 = 14.0;

const ORDER_SWEEPS: usize = 16;
const MOVE_SWEEPS: usize = 25;

/// A box to place: its size, and the boxes before it that it reads.
pub(super) struct Shape {
    pub width: f64,
    pub height: f64,
    pub inputs: Vec<usize>,
}

pub(super) struct Layout {
    pub width: f64,
    pub height: f64,
    /// The left upper corner of each box.
    pub corners: Vec<Point>,
    pub lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub x: f64,
    pub y: f64,
}

/// From one layer to the next: straight down to the layer's floor, then a curve.
pub(super) struct Line {
    pub start: Point,
    /// Where the curve begins.
    pub floor: f64,
    pub end: Point,
    /// Whether it ends at a box, rather than at a place that it passes.
    pub arrives: bool,
    /// The box that it comes from, and those that it leads to.
    pub from: usize,
    pub to: Vec<usize>,
}

pub(super) fn lay_out(shapes: &[Shape]) -> Layout {
    let mut net = Net::new(shapes);
    net.order();
    net.straighten();
    net.layout(shapes)
}

/// A place in a layer: a box's or, with no shape, one that the lines of a box pass.
struct Place {
    shape: Option<usize>,
    /// The box whose lines pass here; a box's own.
    origin: usize,
    layer: usize,
    width: f64,
    above: Vec<usize>,
    below: Vec<usize>,
    /// Its place from the left.
    rank: usize,
    /// Its middle.
    x: f64,
}

impl Place {
    fn neighbours(&self, down: bool) -> &[usize] {
        if down { &self.above } else { &self.below }
    }
}

struct Net {
    /// The boxes' places first, in the order of the boxes.
    places: Vec<Place>,
    /// Places from left to right.
    layers: Vec<Vec<usize>>,
}

impl Net {
    fn new(shapes: &[Shape]) -> Net {
        let mut net = Net { places: Vec::new(), layers: Vec::new() };
        for (at, (shape, layer)) in shapes.iter().zip(layers(shapes)).enumerate() {
            net.add(at, Some(at), layer, shape.width);
        }
        // The lines of a box share their way until they must part.
        let mut way: Vec<Vec<usize>> = (0..shapes.len()).map(|at| vec![at]).collect();
        for (at, shape) in shapes.iter().enumerate() {
            for input in &shape.inputs {
                let steps = net.places[at].layer - net.places[*input].layer;
                while way[*input].len() < steps {
                    let last = way[*input][way[*input].len() - 1];
                    let passed = net.add(*input, None, net.places[last].layer + 1, 0.0);
                    net.connect(last, passed);
                    way[*input].push(passed);
                }
                net.connect(way[*input][steps - 1], at);
            }
        }
        net
    }

    fn add(&mut self, origin: usize, shape: Option<usize>, layer: usize, width: f64) -> usize {
        if self.layers.len() <= layer {
            self.layers.resize(layer + 1, Vec::new());
        }
        let place = self.places.len();
        let rank = self.layers[layer].len();
        let (above, below) = (Vec::new(), Vec::new());
        self.places.push(Place { shape, origin, layer, width, above, below, rank, x: 0.0 });
        self.layers[layer].push(place);
        place
    }

    fn connect(&mut self, from: usize, to: usize) {
        self.places[from].below.push(to);
        self.places[to].above.push(from);
    }

    /// The layers in the order of a sweep.
    fn turns(&self, down: bool) -> Vec<usize> {
        let layers = 0..self.layers.len();
        if down { layers.collect() } else { layers.rev().collect() }
    }

    /// Orders each layer by what its places are connected with, downwards and upwards by turns;
    /// the order with the fewest crossings stays.
    fn order(&mut self) {
        let mut fewest = usize::MAX;
        let mut best = Vec::new();
        for sweep in 0..ORDER_SWEEPS {
            if fewest == 0 {
                break;
            }
            let down = sweep % 2 == 0;
            for layer in self.turns(down) {
                self.sort(layer, down);
            }
            let crossings = self.crossings();
            if crossings < fewest {
                fewest = crossings;
                best.clone_from(&self.layers);
            }
        }
        self.layers = best;
    }

    /// Sorts a layer by the mean rank of each place's neighbours; among equals, lines that pass
    /// go through the middle.
    fn sort(&mut self, layer: usize, down: bool) {
        let mean = |place: usize| {
            let neighbours = self.places[place].neighbours(down);
            let sum: usize = neighbours.iter().map(|near| self.places[*near].rank).sum();
            match neighbours.len() {
                0 => self.places[place].rank as f64,
                count => sum as f64 / count as f64,
            }
        };
        let mut sorted: Vec<(f64, usize)> =
            self.layers[layer].iter().map(|place| (mean(*place), *place)).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let equals = sorted.chunk_by(|a, b| a.0 == b.0).flat_map(|equals| {
            let (boxes, lines): (Vec<usize>, Vec<usize>) =
                equals.iter().map(|(_, place)| place).partition(|place| self.is_box(**place));
            let (left, right) = boxes.split_at(boxes.len() / 2);
            [left, &lines, right].concat()
        });
        self.layers[layer] = equals.collect();
        for (rank, place) in self.layers[layer].iter().enumerate() {
            self.places[*place].rank = rank;
        }
    }

    fn is_box(&self, place: usize) -> bool {
        self.places[place].shape.is_some()
    }

    fn crossings(&self) -> usize {
        let between = |pair: &[Vec<usize>]| {
            let ends = |place: &usize| {
                let below = &self.places[*place].below;
                let mut ends: Vec<usize> = below.iter().map(|end| self.places[*end].rank).collect();
                ends.sort_unstable();
                ends
            };
            inversions(pair[0].iter().flat_map(ends), pair[1].len())
        };
        self.layers.windows(2).map(between).sum()
    }

    /// Moves the places of each layer, in their order, to where their lines are straight.
    fn straighten(&mut self) {
        for layer in &self.layers {
            let apart = self.apart(layer);
            let centred: Vec<(f64, f64)> = layer.iter().map(|_| (0.0, 1.0)).collect();
            for (place, x) in layer.iter().zip(settle(&centred, &apart)) {
                self.places[*place].x = x;
            }
        }
        for sweep in 0..MOVE_SWEEPS {
            let down = sweep % 2 == 0;
            let both = sweep >= MOVE_SWEEPS / 2;
            for layer in self.turns(down) {
                let apart = self.apart(&self.layers[layer]);
                let wish = |place: &usize| self.wish(*place, down, both);
                let wishes: Vec<(f64, f64)> = self.layers[layer].iter().map(wish).collect();
                for (place, x) in self.layers[layer].iter().zip(settle(&wishes, &apart)) {
                    self.places[*place].x = x;
                }
            }
        }
    }

    /// How far the middles of neighbours in a layer must be apart.
    fn apart(&self, layer: &[usize]) -> Vec<f64> {
        let between = |pair: &[usize]| {
            let (left, right) = (&self.places[pair[0]], &self.places[pair[1]]);
            let boxes = left.shape.is_some() && right.shape.is_some();
            (left.width + right.width) / 2.0 + if boxes { GAP } else { LANE }
        };
        layer.windows(2).map(between).collect()
    }

    /// Where a place would be best, and how much that matters: a kink in a long line is ugliest.
    fn wish(&self, place: usize, down: bool, both: bool) -> (f64, f64) {
        let here = &self.places[place];
        // A line that listened to both sides would come down in steps, like stairs.
        let back = match here.shape {
            Some(_) if both => here.neighbours(!down),
            _ => &[],
        };
        let (mut sum, mut weight) = (0.0, 0.0);
        for near in here.neighbours(down).iter().chain(back) {
            let near = &self.places[*near];
            let pull = match (here.shape, near.shape) {
                (None, None) => 8.0,
                (Some(_), Some(_)) => 1.0,
                _ => 2.0,
            };
            sum += pull * near.x;
            weight += pull;
        }
        if weight > 0.0 { (sum / weight, weight) } else { (here.x, 0.1) }
    }

    fn layout(&self, shapes: &[Shape]) -> Layout {
        let edge = |side: f64| self.places.iter().map(move |place| place.x + side * place.width);
        let left = edge(-0.5).fold(f64::INFINITY, f64::min);
        let right = edge(0.5).fold(f64::NEG_INFINITY, f64::max);
        let bands = self.bands(shapes);
        let reached = self.reached();

        let mut corners = vec![Point { x: 0.0, y: 0.0 }; shapes.len()];
        let mut lines = Vec::new();
        for (place, to) in self.places.iter().zip(&reached) {
            let top = bands[place.layer].top;
            if let Some(shape) = place.shape {
                corners[shape] = Point { x: place.x - place.width / 2.0 - left, y: top };
            }
            for (from, port) in self.ports(place) {
                let above = &bands[from.layer];
                let start = above.top + from.shape.map_or(0.0, |shape| shapes[shape].height);
                lines.push(Line {
                    start: Point { x: from.x - left, y: start },
                    floor: above.floor,
                    end: Point { x: port - left, y: top },
                    arrives: place.shape.is_some(),
                    from: from.origin,
                    to: to.clone(),
                });
            }
        }
        Layout {
            width: (right - left).max(0.0),
            height: bands.last().map_or(0.0, |band| band.floor),
            corners,
            lines,
        }
    }

    /// The boxes that each place's lines lead to; a box itself.
    fn reached(&self) -> Vec<Vec<usize>> {
        let mut reached: Vec<Vec<usize>> = vec![Vec::new(); self.places.len()];
        for place in self.layers.iter().rev().flatten().copied() {
            let here = &self.places[place];
            let mut boxes: Vec<usize> = match here.shape {
                Some(shape) => vec![shape],
                None => here.below.iter().flat_map(|below| reached[*below].clone()).collect(),
            };
            boxes.sort_unstable();
            reached[place] = boxes;
        }
        reached
    }

    /// From where to where each layer reaches.
    fn bands(&self, shapes: &[Shape]) -> Vec<Band> {
        let mut top = 0.0;
        let mut bands = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let height = |place: &usize| self.places[*place].shape.map(|at| shapes[at].height);
            let floor = top + layer.iter().filter_map(height).fold(0.0, f64::max);
            bands.push(Band { top, floor });
            let lines = layer.iter().flat_map(|place| {
                let here = &self.places[*place];
                here.below.iter().map(|below| (self.places[*below].x - here.x).abs())
            });
            let farthest = lines.fold(0.0, f64::max);
            top = floor + (DROP + farthest / 12.0).min(MOST_DROP);
        }
        bands
    }

    /// Where each line enters a place: straight from above where it can.
    fn ports(&self, place: &Place) -> Vec<(&Place, f64)> {
        let mut above: Vec<&Place> = place.above.iter().map(|from| &self.places[*from]).collect();
        above.sort_by(|a, b| a.x.total_cmp(&b.x));
        let half = (place.width / 2.0 - PORT).max(0.0);
        let (left, right) = (place.x - half, place.x + half);
        let parts = above.len().saturating_sub(1);
        let apart = vec![PORT.min(2.0 * half / parts.max(1) as f64); parts];
        let wishes: Vec<(f64, f64)> =
            above.iter().map(|from| (from.x.clamp(left, right), 1.0)).collect();
        let ports = settle(&wishes, &apart).into_iter().map(|port| port.clamp(left, right));
        above.into_iter().zip(ports).collect()
    }
}

/// The top of a layer's boxes, and the bottom of the highest of them.
struct Band {
    top: f64,
    floor: f64,
}

/// A layer for each box: below its inputs, and not too many boxes in one.
fn layers(shapes: &[Shape]) -> Vec<usize> {
    let most = ((shapes.len() as f64).sqrt().ceil() as usize).max(8);
    let mut filled: Vec<usize> = Vec::new();
    let mut layers: Vec<usize> = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let mut layer = shape.inputs.iter().map(|input| layers[*input] + 1).max().unwrap_or(0);
        while filled.get(layer).is_some_and(|count| *count >= most) {
            layer += 1;
        }
        if filled.len() <= layer {
            filled.resize(layer + 1, 0);
        }
        filled[layer] += 1;
        layers.push(layer);
    }

    // What reads nothing moves down to its first reader.
    let mut first_read: Vec<usize> = vec![0; shapes.len()];
    for (shape, layer) in shapes.iter().zip(&layers) {
        for input in &shape.inputs {
            first_read[*input] = match first_read[*input] {
                0 => *layer,
                earlier => earlier.min(*layer),
            };
        }
    }
    for (at, shape) in shapes.iter().enumerate() {
        if shape.inputs.is_empty() {
            let mut nearer = (layers[at] + 1..first_read[at]).rev();
            if let Some(layer) = nearer.find(|layer| filled[*layer] < most) {
                filled[layers[at]] -= 1;
                filled[layer] += 1;
                layers[at] = layer;
            }
        }
    }
    layers
}

/// The places nearest to what is wished, in the order and at least as far apart as given.
///
/// With what must be between them taken off, places in order are numbers that do not fall; where
/// wishes fall, those places share their mean (isotonic regression).
fn settle(wishes: &[(f64, f64)], apart: &[f64]) -> Vec<f64> {
    struct Block {
        mean: f64,
        weight: f64,
        count: usize,
    }

    let mut offsets = Vec::with_capacity(wishes.len());
    let mut offset = 0.0;
    let mut blocks: Vec<Block> = Vec::new();
    for (at, (wish, weight)) in wishes.iter().enumerate() {
        offset += if at == 0 { 0.0 } else { apart[at - 1] };
        offsets.push(offset);
        let mut block = Block { mean: wish - offset, weight: *weight, count: 1 };
        while let Some(before) = blocks.pop_if(|before| before.mean >= block.mean) {
            let weight = before.weight + block.weight;
            let sum = before.mean * before.weight + block.mean * block.weight;
            block = Block { mean: sum / weight, weight, count: before.count + block.count };
        }
        blocks.push(block);
    }
    let means = blocks.iter().flat_map(|block| std::iter::repeat_n(block.mean, block.count));
    means.zip(offsets).map(|(mean, offset)| mean + offset).collect()
}

/// How many pairs of numbers below `bound` are in falling order.
fn inversions(numbers: impl Iterator<Item = usize>, bound: usize) -> usize {
    // A Fenwick tree: how many numbers up to a bound were seen.
    let mut seen = vec![0; bound + 1];
    let mut falling = 0;
    for (before, number) in numbers.enumerate() {
        let mut not_above = 0;
        let mut at = number + 1;
        while at > 0 {
            not_above += seen[at];
            at &= at - 1;
        }
        falling += before - not_above;
        at = number + 1;
        while at <= bound {
            seen[at] += 1;
            at += at & at.wrapping_neg();
        }
    }
    falling
}
