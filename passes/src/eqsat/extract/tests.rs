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

/// Random graphs with cycles: classes of up to four nodes over a handful of classes.
fn random_problem(next: &mut dyn FnMut(u64) -> u64) -> Problem {
    let n = 3 + next(6) as usize;
    let candidate = |i: usize, next: &mut dyn FnMut(u64) -> u64| {
        let children = (0..next(4)).map(|_| next(n as u64) as usize).collect::<Vec<_>>();
        node(next(30), if i == 0 { &[] } else { &children })
    };
    let class = |i: usize, next: &mut dyn FnMut(u64) -> u64| {
        let candidates = 1 + next(3);
        (0..candidates).map(|_| candidate(i, next)).collect()
    };
    let classes = (0..n).map(|i| class(i, next)).collect();
    labelled(Problem { classes, roots: vec![n - 1] })
}

/// Many values that could each be read from one shared child: what merged siblings look like.
fn shared_problem(next: &mut dyn FnMut(u64) -> u64) -> Problem {
    let (values, shared) = (2 + next(4) as usize, 1 + next(2) as usize);
    let mut classes: Vec<Vec<Candidate>> = (0..shared).map(|_| vec![node(5 + next(20), &[])]).collect();
    for _ in 0..values {
        let mut class = vec![node(2 + next(12), &[])];
        for s in 0..shared {
            if next(3) > 0 {
                class.push(node(next(3), &[s]));
            }
        }
        classes.push(class);
    }
    let all: Vec<usize> = (shared..shared + values).collect();
    let root = classes.len();
    classes.push(vec![node(0, &all)]);
    labelled(Problem { classes, roots: vec![root] })
}

/// `cargo test -p mlxc-passes gaps -- --nocapture` prints the figures.
#[test]
fn gaps_to_the_best_choice_are_small() {
    let mut r = 1u64;
    let mut next = |n: u64| {
        r = mix(r, 7);
        r % n
    };
    for (name, cyclic) in [("random graphs with cycles", true), ("siblings with shared children", false)] {
        let mut gaps = Vec::new();
        while gaps.len() < 3000 {
            let p = if cyclic { random_problem(&mut next) } else { shared_problem(&mut next) };
            let (found, best) = (extract(&p), brute_force(&p));
            assert_eq!(found.is_some(), best.is_some());
            if let (Some(found), Some(best)) = (found, best) {
                gaps.push(if best == 0 { found.cost as f64 } else { found.cost as f64 / best as f64 - 1.0 });
            }
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let worst = gaps.iter().copied().fold(0.0, f64::max);
        let exact = gaps.iter().filter(|g| **g == 0.0).count();
        println!(
            "extraction, {name}: {} cases, mean gap {:.4} %, worst {:.1} %, best found in {:.2} %",
            gaps.len(),
            100.0 * mean,
            100.0 * worst,
            100.0 * exact as f64 / gaps.len() as f64
        );
        assert!(mean < 0.005, "mean gap {mean}");
    }
}
