//! A line of relays into which further ones are inserted, and in which any two can be compared.

/// Places of a block between the root as the low end and the root again as the high end.
///
/// A linked list whose members carry labels that grow along it. Where no label is left between two neighbours, all are
/// given anew.
#[derive(Clone, Debug)]
pub(super) struct Order {
    next: Vec<usize>,
    previous: Vec<usize>,
    labels: Vec<u64>,
    low_end: usize,
}

impl Order {
    /// An empty line of up to `len` relays whose root is at this place.
    pub(super) fn new(len: usize, root: usize) -> Order {
        let mut order = Order {
            next: vec![0; len + 1],
            previous: vec![0; len + 1],
            labels: vec![0; len + 1],
            low_end: root,
        };
        let high_end = order.high_end();
        order.next[root] = high_end;
        order.previous[high_end] = root;
        order.labels[high_end] = u64::MAX;
        order
    }

    /// The root as the low end.
    pub(super) fn low_end(&self) -> usize {
        self.low_end
    }

    /// The root as the high end: a place that no relay has.
    pub(super) fn high_end(&self) -> usize {
        self.next.len() - 1
    }

    /// Whether one that is in the line is below another.
    pub(super) fn is_below(&self, one: usize, other: usize) -> bool {
        self.labels[one] < self.labels[other]
    }

    /// Inserts some, ascending, right above one that is in the line.
    pub(super) fn insert_above(&mut self, below: usize, places: &[usize]) {
        let above = self.next[below];
        let mut last = below;
        for &place in places {
            self.next[last] = place;
            self.previous[place] = last;
            last = place;
        }
        self.next[last] = above;
        self.previous[above] = last;
        let gap = (self.labels[above] - self.labels[below]) / (places.len() as u64 + 1);
        if gap == 0 {
            self.label_anew();
            return;
        }
        for (at, &place) in places.iter().enumerate() {
            self.labels[place] = self.labels[below] + gap * (at as u64 + 1);
        }
    }

    /// Inserts some, ascending, right below one that is in the line.
    pub(super) fn insert_below(&mut self, above: usize, places: &[usize]) {
        self.insert_above(self.previous[above], places);
    }

    /// All in the line, ascending, without its ends.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let high_end = self.high_end();
        std::iter::successors(Some(self.next[self.low_end]), |at| Some(self.next[*at]))
            .take_while(move |at| *at != high_end)
    }

    fn label_anew(&mut self) {
        let gap = u64::MAX / (self.next.len() as u64 + 1);
        let line: Vec<usize> = self.iter().collect();
        for (at, place) in line.into_iter().enumerate() {
            self.labels[place] = gap * (at as u64 + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_at_the_same_spot_stay_in_order() {
        let mut order = Order::new(2_000, 1_999);
        order.insert_above(order.low_end(), &[0]);
        for place in (1..1_999).step_by(2) {
            if place % 4 == 1 {
                order.insert_above(0, &[place, place + 1]);
            } else {
                order.insert_below(order.high_end(), &[place, place + 1]);
            }
        }
        let line: Vec<usize> = order.iter().collect();
        assert!(line.windows(2).all(|pair| order.is_below(pair[0], pair[1])));
        assert_eq!((line.len(), line[0], &line[1..3]), (1_999, 0, &[1_997, 1_998][..]));
        assert!(order.is_below(order.low_end(), 0) && order.is_below(line[1_998], order.high_end()));
    }
}
