//! A line of relays into which further ones are inserted, and in which any two can be compared.

/// Places of a block between the root as the low end and the root again as the high end.
///
/// A linked list whose members carry labels that grow along it. Where no label is left between two neighbours, all are
/// given anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    next: Vec<u32>,
    previous: Vec<u32>,
    labels: Vec<u64>,
    low_end: u32,
    high_end: u32,
}

impl Order {
    /// An empty line of up to `len` relays whose root is at this place; what was in it before is forgotten.
    pub(super) fn begin(&mut self, len: usize, root: usize) {
        self.next.resize(len + 1, 0);
        self.previous.resize(len + 1, 0);
        self.labels.resize(len + 1, 0);
        (self.low_end, self.high_end) = (root as u32, len as u32);
        self.next[root] = self.high_end;
        self.previous[len] = self.low_end;
        self.labels[root] = 0;
        self.labels[len] = u64::MAX;
    }

    /// The root as the low end.
    pub(super) fn low_end(&self) -> u32 {
        self.low_end
    }

    /// The root as the high end: a place that no relay has.
    pub(super) fn high_end(&self) -> u32 {
        self.high_end
    }

    /// Whether one that is in the line is below another.
    pub(super) fn is_below(&self, one: u32, other: u32) -> bool {
        self.labels[one as usize] < self.labels[other as usize]
    }

    /// Inserts some, ascending, right above one that is in the line.
    pub(super) fn insert_above(&mut self, below: u32, places: &[u32]) {
        let above = self.next[below as usize];
        let mut last = below;
        for &place in places {
            self.next[last as usize] = place;
            self.previous[place as usize] = last;
            last = place;
        }
        self.next[last as usize] = above;
        self.previous[above as usize] = last;
        let below_label = self.labels[below as usize];
        let gap = (self.labels[above as usize] - below_label) / (places.len() as u64 + 1);
        if gap == 0 {
            self.label_anew();
            return;
        }
        for (at, &place) in (1..).zip(places) {
            self.labels[place as usize] = below_label + gap * at;
        }
    }

    /// Inserts some, ascending, right below one that is in the line.
    pub(super) fn insert_below(&mut self, above: u32, places: &[u32]) {
        self.insert_above(self.previous[above as usize], places);
    }

    /// All in the line, ascending, without its ends.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(self.next[self.low_end as usize]), |at| Some(self.next[*at as usize]))
            .take_while(|at| *at != self.high_end)
    }

    fn label_anew(&mut self) {
        let gap = u64::MAX / (u64::from(self.high_end) + 2);
        let line: Vec<u32> = self.iter().collect();
        for (at, place) in (1..).zip(line) {
            self.labels[place as usize] = gap * at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_at_the_same_spot_stay_in_order() {
        let mut order = Order::default();
        order.begin(2_000, 1_999);
        order.insert_above(order.low_end(), &[0]);
        for place in (1..1_999).step_by(2) {
            if place % 4 == 1 {
                order.insert_above(0, &[place, place + 1]);
            } else {
                order.insert_below(order.high_end(), &[place, place + 1]);
            }
        }
        let line: Vec<u32> = order.iter().collect();
        assert!(line.windows(2).all(|pair| order.is_below(pair[0], pair[1])));
        assert_eq!((line.len(), line[0], &line[1..3]), (1_999, 0, &[1_997, 1_998][..]));
        assert!(order.is_below(order.low_end(), 0) && order.is_below(line[1_998], order.high_end()));
    }
}
