//! A server within its group: what it gains, what it lets go, and how it leaves.

use krpc_core::{ids::PartitionId, transport::CommitPoint};

use crate::{
    bugs::Bug,
    ctx::{Ctx, Event, Proc},
    group::Mail,
    server::Server,
};

/// Partitions on their way out.
#[derive(Debug)]
pub(crate) struct Release {
    number: u64,
    partitions: Vec<u32>,
    /// Where reading stopped, for a bug.
    ends: Vec<i64>,
    /// Everything of them was finished in time.
    clean: bool,
    /// The last points are on their way to the coordinator.
    committing: bool,
}

impl Server {
    /// The coordinator takes it in.
    pub(crate) fn joined(&mut self, member: u64) {
        if let Some(up) = &mut self.up {
            up.member = Some(member);
        }
    }

    /// The coordinator's word; words wait while a release is under way.
    pub(crate) fn mail(&mut self, member: u64, mail: Mail, cx: &mut Ctx) {
        let Some(up) = &mut self.up else { return };
        if up.member == Some(member) && !up.leaving {
            up.mail.push_back(mail);
            self.read_mail(cx);
        }
    }

    fn read_mail(&mut self, cx: &mut Ctx) {
        while let Some(up) = self.up.as_mut().filter(|up| up.release.is_none()) {
            match up.mail.pop_front() {
                Some(Mail::Assign(partitions)) => self.assign(&partitions, cx),
                Some(Mail::Revoke(partitions)) => self.release(partitions, cx),
                None if up.leaving => {
                    let owned: Vec<u32> = up.epochs.keys().copied().collect();
                    return self.release(owned, cx);
                }
                None => return,
            }
        }
    }

    fn assign(&mut self, partitions: &[u32], cx: &mut Ctx) {
        let server = self.index;
        self.with(cx, |up, cx| {
            let mut news = Vec::new();
            for partition in partitions.iter().copied() {
                if !up.member.is_some_and(|member| cx.group.owns(member, partition)) {
                    continue;
                }
                let committed = cx.group.committed(partition).clone();
                cx.say(|| format!("server {server} owns {partition} from {committed:?}"));
                let epoch = cx.check.assigned(partition, &committed);
                up.epochs.insert(partition, epoch);
                up.reading.insert(partition, committed.as_ref().map_or(0, |(offset, _)| *offset));
                let committed = match committed {
                    Some((offset, _)) if cx.bug == Some(Bug::MapForgotten) => {
                        Some((offset, String::new()))
                    }
                    committed => committed,
                };
                news.push((id(partition), committed));
            }
            up.machine.handle_assigned(&news, up.port.now(cx));
        });
        self.want_records(cx);
    }

    fn release(&mut self, partitions: Vec<u32>, cx: &mut Ctx) {
        let (server, life) = (self.index, self.life);
        cx.say(|| format!("server {server} releases {partitions:?}"));
        self.with(cx, |up, cx| {
            let ids: Vec<_> = partitions.iter().copied().map(id).collect();
            up.machine.release(&ids, up.port.now(cx));
            up.door.forget(&ids);
            let end = |partition| up.reading.remove(partition).unwrap_or_default();
            let ends = partitions.iter().map(end).collect();
            up.releases += 1;
            let number = up.releases;
            let patience = if up.leaving { cx.plan.drain_timeout } else { cx.plan.release_timeout };
            let release = number;
            cx.at(cx.now + patience, Event::ReleaseOver { server, life, release });
            up.release = Some(Release { number, partitions, ends, clean: true, committing: false });
        });
    }

    /// Looks whether the release under way is done.
    pub(crate) fn check_release(&mut self, cx: &mut Ctx) {
        let Some(up) = &self.up else { return };
        let Some(release) = up.release.as_ref().filter(|release| !release.committing) else {
            return;
        };
        let ids: Vec<_> = release.partitions.iter().copied().map(id).collect();
        if up.machine.is_released(&ids) {
            self.take_released(cx);
        }
    }

    /// A release has taken long enough.
    pub(crate) fn release_over(&mut self, number: u64, cx: &mut Ctx) {
        let Some(up) = &mut self.up else { return };
        if let Some(release) = up.release.as_mut().filter(|r| r.number == number && !r.committing) {
            cx.say(|| format!("server {} was not done in time", self.index));
            release.clean = false;
            cx.check.tally.count("release not done in time");
            self.take_released(cx);
        }
    }

    fn take_released(&mut self, cx: &mut Ctx) {
        let (server, life) = (self.index, self.life);
        let (mut points, mut number) = (Vec::new(), 0);
        self.with(cx, |up, cx| {
            let Some(release) = &mut up.release else { return };
            (release.committing, number) = (true, release.number);
            let ids: Vec<_> = release.partitions.iter().copied().map(id).collect();
            points = up.machine.take_released(&ids, up.port.now(cx));
            if cx.bug == Some(Bug::DropOnRevoke) {
                let end = |(partition, offset): (&PartitionId, &i64)| {
                    let metadata = String::new();
                    CommitPoint { partition: *partition, offset: *offset, metadata }
                };
                points = ids.iter().zip(&release.ends).map(end).collect();
            }
        });
        cx.say(|| format!("server {server} released {points:?}"));
        match self.up.as_ref().and_then(|up| up.member) {
            Some(member) if !points.is_empty() => {
                self.tell(Event::Commit { server, life, member, points, release: number }, cx);
            }
            _ => self.released(number, &[], cx),
        }
    }

    /// The last points of a release are committed, but for these.
    pub(crate) fn released(&mut self, number: u64, results: &[(PartitionId, bool)], cx: &mut Ctx) {
        let Some(up) = &mut self.up else { return };
        let Some(release) = up.release.take_if(|release| release.number == number) else { return };
        for partition in &release.partitions {
            let Some(epoch) = up.epochs.remove(partition) else { continue };
            let owned = up.member.is_some_and(|member| cx.group.owns(member, *partition));
            if release.clean && owned && !results.contains(&(id(*partition), false)) {
                cx.check.drained(epoch);
            }
        }
        let Some(member) = up.member else { return };
        if up.leaving && up.epochs.is_empty() {
            self.leave(member, cx);
        } else {
            self.tell(Event::Released { member, partitions: release.partitions }, cx);
            self.read_mail(cx);
        }
    }

    /// Shuts down in good order; true if there was something to shut down.
    pub(crate) fn shut_down(&mut self, cx: &mut Ctx) -> bool {
        let Some(up) = self.up.as_mut().filter(|up| !up.leaving && up.member.is_some()) else {
            return false;
        };
        cx.say(|| format!("server {} shuts down", self.index));
        up.leaving = true;
        up.mail.clear();
        self.read_mail(cx);
        true
    }

    /// Leaves the group and ends; what runs still is lost, as its drain time was over.
    fn leave(&mut self, member: u64, cx: &mut Ctx) {
        self.tell(Event::Gone { member }, cx);
        self.die(cx);
        let at = cx.now + cx.rng.doubling(1_000, 1_000_000);
        cx.at(at, Event::Boot(Proc::Server(self.index)));
    }

    /// After a pause, a cut or a start: learns whether the group has given it up meanwhile.
    pub(crate) fn recover(&mut self, cx: &mut Ctx) {
        let (server, life) = (self.index, self.life);
        let Some(up) = &mut self.up else { return };
        if !up.asked {
            return self.start_again(cx);
        }
        let Some(member) = up.member.filter(|member| !cx.group.is_member(*member)) else { return };
        cx.say(|| format!("server {server} learns that it is out of the group"));
        cx.check.tally.count("member lost its place");
        let lost: Vec<_> = up.epochs.keys().copied().map(id).collect();
        let leaving = up.leaving;
        self.with(cx, |up, cx| {
            (up.member, up.release) = (None, None);
            up.mail.clear();
            up.reading.clear();
            up.epochs.clear();
            up.machine.handle_lost(&lost, up.port.now(cx));
            up.door.forget(&lost);
        });
        if leaving {
            self.leave(member, cx);
        } else {
            self.tell(Event::Join { server, life }, cx);
        }
    }
}

const fn id(partition: u32) -> PartitionId {
    PartitionId { service: 0, partition }
}
