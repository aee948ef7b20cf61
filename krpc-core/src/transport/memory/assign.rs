//! How the partitions of a topic are shared out among the members of a group: balanced, and with
//! as few moves as balance allows.

/// Which member, by its index, shall have each partition: numbers differ by one at most, and
/// within that everybody keeps what they hold.
pub(super) fn plan(holders: &[Option<u64>], members: &[u64]) -> Vec<Option<usize>> {
    if members.is_empty() {
        return vec![None; holders.len()];
    }
    let index = |side: u64| members.iter().position(|member| *member == side);
    let held: Vec<_> = holders.iter().map(|side| side.and_then(index)).collect();
    let count = |member: usize| held.iter().filter(|holder| **holder == Some(member)).count();

    // Those who hold most get the shares that are larger by one, so that less moves.
    let mut order: Vec<_> = (0..members.len()).collect();
    order.sort_by_key(|member| std::cmp::Reverse(count(*member)));
    let (share, larger) = (holders.len() / members.len(), holders.len() % members.len());
    let mut room = vec![share; members.len()];
    order.iter().take(larger).for_each(|member| room[*member] += 1);

    let mut plan = vec![None; holders.len()];
    for (target, holder) in plan.iter_mut().zip(&held) {
        if let Some(member) = holder.filter(|member| room[*member] > 0) {
            room[member] -= 1;
            *target = Some(member);
        }
    }
    let mut free = order.into_iter().flat_map(|member| vec![member; room[member]]);
    plan.iter_mut().filter(|target| target.is_none()).for_each(|target| *target = free.next());
    plan
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_plan_is_balanced_and_moves_as_little_as_it_can() {
        assert_eq!(plan(&[None; 3], &[]), [None; 3]);
        for partitions in 0..40_usize {
            let (mut holders, mut before) = (vec![None; partitions], 0);
            for last in (1..9).chain((1..8).rev()) {
                let members: Vec<u64> = (1..=last).collect();
                let plan = plan(&holders, &members);
                let count = |index| plan.iter().filter(|target| **target == Some(index)).count();
                let counts: Vec<_> = (0..members.len()).map(count).collect();
                let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(most - least <= 1, "{partitions} partitions: {counts:?}");
                let next: Vec<_> = plan.iter().map(|index| Some(members[index.unwrap()])).collect();
                let moved = holders.iter().zip(&next).filter(|(old, new)| old != new).count();
                let orphans = holders.iter().filter(|h| h.is_none_or(|side| side > last)).count();
                let newcomer = if last > before { partitions / members.len() } else { 0 };
                assert_eq!(moved, orphans.max(newcomer), "{partitions} over {members:?}");
                (holders, before) = (next, last);
            }
        }
    }
}
