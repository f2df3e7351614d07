//! Extraction against every choice there is, on small graphs.

use super::*;
use proptest::prelude::*;

/// The cheapest valid choice, by trying all.
fn brute_force(p: &Problem) -> Option<u64> {
    let mut best = None;
    let mut choice = vec![Some(0); p.classes.len()];
    loop {
        if let Some(cost) = total(p, &choice) {
            best = Some(best.map_or(cost, |b: u64| b.min(cost)));
        }
        let mut at = 0;
        loop {
            if at == choice.len() {
                return best;
            }
            let next = choice[at].map_or(0, |k| k + 1);
            if next < p.classes[at].len() {
                choice[at] = Some(next);
                break;
            }
            choice[at] = Some(0);
            at += 1;
        }
    }
}

fn node(cost: u64, children: &[usize]) -> Candidate {
    Candidate { cost, label: 0, children: children.to_vec() }
}

/// Labels by position, so that no two classes are alike.
fn labelled(mut p: Problem) -> Problem {
    let mut n = 0;
    for c in p.classes.iter_mut().flatten() {
        n += 1;
        c.label = n;
    }
    p
}

fn problems() -> impl Strategy<Value = Problem> {
    (2usize..8).prop_flat_map(|n| {
        // Any class may be a child: graphs have cycles.
        let candidate = (0u64..20, prop::collection::vec(0..n, 0..3)).prop_map(|(cost, children)| Candidate {
            cost,
            label: 0,
            children,
        });
        let class = prop::collection::vec(candidate, 1..4);
        (prop::collection::vec(class, n), prop::collection::vec(0..n, 1..3))
            .prop_map(|(classes, roots)| labelled(Problem { classes, roots }))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn choices_are_valid_and_no_better_than_the_best(p in problems()) {
        let found = extract(&p);
        let best = brute_force(&p);
        prop_assert_eq!(found.is_some(), best.is_some());
        if let (Some(found), Some(best)) = (found, best) {
            prop_assert_eq!(total(&p, &found.choice), Some(found.cost));
            prop_assert!(found.cost >= best);
            // Never worse than the trees it starts from.
            let trees = total(&p, &cheapest_trees(&p, &Order::of(&p)));
            prop_assert!(trees.is_some_and(|t| found.cost <= t));
        }
    }

    #[test]
    fn the_order_of_insertion_does_not_matter(p in problems(), seed in any::<u64>()) {
        let n = p.classes.len();
        let mut to: Vec<usize> = (0..n).collect();
        to.sort_by_key(|c| mix(seed, *c as u64));
        let mut classes = vec![Vec::new(); n];
        for (c, candidates) in p.classes.iter().enumerate() {
            let renamed = candidates.iter().map(|x| Candidate {
                children: x.children.iter().map(|c| to[*c]).collect(),
                ..x.clone()
            });
            classes[to[c]] = renamed.rev().collect();
        }
        let q = Problem { classes, roots: p.roots.iter().map(|r| to[*r]).collect() };
        match (extract(&p), extract(&q)) {
            (Some(a), Some(b)) => {
                prop_assert_eq!(a.cost, b.cost);
                let live = reached(&p, &a.choice);
                for c in (0..n).filter(|c| live[*c]) {
                    let label = |p: &Problem, e: &Extraction, c: usize| e.choice[c].map(|k| p.classes[c][k].label);
                    prop_assert_eq!(label(&p, &a, c), label(&q, &b, to[c]));
                }
            }
            (a, b) => prop_assert_eq!(a.is_some(), b.is_some()),
        }
    }
}

#[test]
fn siblings_move_to_a_shared_child_together() {
    // Three projections at 10 each, or slices at 1 of one wide product at 12: no single flip gains.
    let slice = |cost| vec![node(cost, &[]), node(1, &[3])];
    let p = labelled(Problem {
        classes: vec![slice(10), slice(10), slice(10), vec![node(12, &[])], vec![node(0, &[0, 1, 2])]],
        roots: vec![4],
    });
    let e = extract(&p).unwrap();
    assert_eq!(e.cost, 15);
    assert_eq!(brute_force(&p), Some(15));
}

#[test]
fn most_random_graphs_are_solved_exactly() {
    let mut r = 1u64;
    let mut next = |n: u64| {
        r = mix(r, 7);
        r % n
    };
    let (mut exact, mut all) = (0, 0);
    for _ in 0..2000 {
        let n = 3 + next(6) as usize;
        let classes = (0..n)
            .map(|i| {
                let candidates = 1 + next(3);
                (0..candidates)
                    .map(|_| {
                        let children = (0..next(4)).map(|_| next(n as u64) as usize).collect::<Vec<_>>();
                        node(next(30), if i == 0 { &[] } else { &children })
                    })
                    .collect()
            })
            .collect();
        let p = labelled(Problem { classes, roots: vec![n - 1] });
        if let (Some(e), Some(best)) = (extract(&p), brute_force(&p)) {
            all += 1;
            exact += usize::from(e.cost == best);
        }
    }
    assert!(all > 1000 && exact * 100 >= all * 97, "{exact} of {all}");
}
