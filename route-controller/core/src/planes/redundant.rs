//! Two trees towards one relay of a block, red and blue, that share nothing on the way from any other relay of it.
//!
//! The relays of the block are put in a line whose both ends are the root, such that each has a neighbour below and
//! another above it (an s-t numbering, as RFC 7811 makes for its GADAG). Red always goes down and blue always up, so
//! neither can loop, and what one passes is below where the other begins and passes only what is above.
//!
//! The line grows by ears: a way from one relay in the line to another over relays that are not yet, which are inserted
//! between the two. An ear is made of two branches of the tree of shortest paths and a link between them, and the
//! cheapest ear comes first: hence a relay's first way out is its shortest path, and its second the best one over a
//! link into another branch. Any line allows every relay the choice among all links downwards, and upwards; each takes
//! the shortest way that way. Several roots need several lines: in one line for all, as the standard has it, half of
//! all ways would pass one relay.
//!
//! Why the ears never run out: the relays in the line are a subtree of the shortest paths that has the root. Something
//! hangs below one of them, and this one is no cut vertex of the block, so a link leads from what hangs there to
//! somewhere else. If that hangs below another, or is in the line, there is the ear.

mod ears;
mod sweep;

use super::blocks::Block;
use super::shortest::Ways;
use ears::Ears;
use sweep::Sweep;

/// Which of the two redundant trees.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Side {
    /// Down the line.
    Red = 0,
    /// Up the line.
    Blue = 1,
}

impl Side {
    /// Not this one.
    pub(super) fn other(self) -> Side {
        match self {
            Side::Red => Side::Blue,
            Side::Blue => Side::Red,
        }
    }

    /// Whose turn it is along the line, nearest to this tree's end first.
    fn turn(self, order: &[u32], at: usize) -> u32 {
        match self {
            Side::Red => order[at],
            Side::Blue => order[order.len() - 1 - at],
        }
    }
}

/// What a relay does on a tree, in places of the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Branch {
    /// Who comes next.
    pub next: u32,
    /// Cost of the way to the root, those on it included that are dear to pass.
    pub cost_us: u64,
}

/// Both trees of a block towards one of its relays.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockTrees {
    /// All relays but the root, from the low end to the high end.
    pub order: Vec<u32>,
    /// Red and blue, by place; the root's own has no meaning.
    pub branches: [Vec<Branch>; 2],
}

/// Makes trees of one block after the other, in room that it keeps.
#[derive(Debug, Default)]
pub(super) struct Grower {
    ears: Ears,
    sweep: Sweep,
}

impl Grower {
    /// Makes the trees towards the relay of the block that is at place `root`.
    /// `ways` are the shortest ones there, where they are known.
    pub(super) fn towards(
        &mut self,
        block: &Block,
        root: usize,
        ways: Option<&Ways>,
        trees: &mut BlockTrees,
    ) {
        self.ears.begin(block, root);
        if block.len() == 2 {
            // A bridge: both go over it, at different times.
            self.ears.order.insert_above(root as u32, &[1 - root as u32]);
        } else {
            self.ears.grow(block, ways);
        }
        trees.order.clear();
        trees.order.extend(self.ears.order.iter());
        debug_assert_eq!(trees.order.len() + 1, block.len(), "every relay of a block is on an ear");
        self.sweep.trees(block, root, &mut self.ears.direct, trees);
    }
}

fn fill<T: Clone>(room: &mut Vec<T>, len: usize, value: T) {
    room.clear();
    room.resize(len, value);
}
