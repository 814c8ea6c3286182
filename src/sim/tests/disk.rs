use std::path::Path;

use crate::sim::Machine;
use crate::sim::chance::Chance;
use crate::sim::disk::SimDisk;
use crate::sim::machine::{Crash, Death, Fate, Faults};
use crate::wal::disk::{Disk, How};

fn disk() -> (Machine, SimDisk) {
    let machine = Machine::new(Chance(1));
    (machine.clone(), SimDisk::new(machine))
}

/// Power is lost between two operations, and comes back.
fn cut_power(machine: &Machine, disk: &SimDisk, seed: u64) {
    machine.die();
    disk.survive(Death::PowerLoss, &mut Chance(seed));
    machine.switch_on(None, Faults::default());
}

fn read(disk: &SimDisk, how: How) -> Vec<u8> {
    let file = disk.open(Path::new("/d/file"), how).unwrap();
    let mut bytes = vec![0; file.length().unwrap() as usize];
    file.read_full_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn what_was_synced_survives_and_of_the_rest_any_sector_may() {
    let mut unsynced = [0_u32; 3];
    for seed in 0..100 {
        let (machine, disk) = disk();
        let file = disk.open(Path::new("/d/file"), How::Create).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(&[1; 2048], 0).unwrap();
        file.sync().unwrap();
        file.write_all_at(&[2; 1024], 1024).unwrap();
        cut_power(&machine, &disk, seed);
        assert!(file.length().is_err(), "its process is dead");
        let bytes = read(&disk, How::Write);
        assert_eq!(bytes[..1024], [1; 1024]);
        for sector in bytes[1024..].chunks(512) {
            let kind = [1, 2].iter().position(|byte| sector.iter().all(|b| b == byte));
            unsynced[kind.unwrap_or(2)] += 1;
        }
    }
    assert!(unsynced.iter().all(|count| *count > 5), "old, new, garbage: {unsynced:?}");
}

#[test]
fn a_name_is_certain_only_after_its_directory_was_synced() {
    let there = |disk: &SimDisk| disk.list(Path::new("/d")).unwrap().len();
    let (mut created, mut removed) = (0, 0);
    for seed in 0..100 {
        let (machine, disk) = disk();
        disk.open(Path::new("/d/file"), How::Create).unwrap();
        cut_power(&machine, &disk, seed);
        created += there(&disk);
        if there(&disk) == 0 {
            disk.open(Path::new("/d/file"), How::Create).unwrap();
        }
        disk.sync_dir(Path::new("/d")).unwrap();
        cut_power(&machine, &disk, seed);
        assert_eq!(there(&disk), 1);
        disk.remove(Path::new("/d/file")).unwrap();
        cut_power(&machine, &disk, seed + 1);
        removed += 1 - there(&disk);
    }
    assert!((10..90).contains(&created) && (10..90).contains(&removed), "{created} {removed}");
}

#[test]
fn a_failed_sync_lies_to_readers_of_the_cache_and_to_the_next_sync() {
    let (machine, disk) = disk();
    let file = disk.open(Path::new("/d/file"), How::Create).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(&[1; 51_200], 0).unwrap();
    machine.switch_on(None, Faults { failed_sync: 1000, ..Faults::default() });
    let file = disk.open(Path::new("/d/file"), How::Write).unwrap();
    assert!(file.sync().is_err());
    machine.switch_on(None, Faults::default());
    let file = disk.open(Path::new("/d/file"), How::Write).unwrap();
    file.sync().unwrap();
    assert_eq!(read(&disk, How::Write), [1; 51_200]);
    assert_ne!(read(&disk, How::Direct), [1; 51_200]);
    file.drop_cache().unwrap();
    assert_eq!(read(&disk, How::Write), read(&disk, How::Direct));
}

#[test]
fn the_machine_dies_at_the_operation_it_was_told_to_and_a_kill_leaves_the_cache() {
    let (machine, disk) = disk();
    let file = disk.open(Path::new("/d/file"), How::Create).unwrap();
    file.write_all_at(&[1; 512], 0).unwrap();
    machine
        .switch_on(Some(Crash { at: 2, fate: Fate::After, death: Death::Kill }), Faults::default());
    let file = disk.open(Path::new("/d/file"), How::Write).unwrap();
    file.write_all_at(&[2; 512], 512).unwrap();
    assert!(file.write_all_at(&[3; 512], 1024).is_err());
    assert!(!machine.is_alive() && disk.list(Path::new("/d")).is_err());
    disk.survive(Death::Kill, &mut Chance(1));
    machine.switch_on(None, Faults::default());
    assert_eq!(read(&disk, How::Write), [[1; 512], [2; 512], [3; 512]].concat());
}
