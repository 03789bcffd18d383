//! What is written is what is read, for every message.

use crucible_proto::message::{self, Answer, Round};
use crucible_proto::parcel::Parcel;
use crucible_proto::wire;
use crucible_proto::zip;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::arbitrary::{answer, parcel, round};

proptest! {
    #[test]
    fn every_round_reads_back(round in round()) {
        let body = message::body(&round);
        prop_assert_eq!(message::protocol_of(&body), Some(message::PROTOCOL));
        prop_assert_eq!(message::parse::<Round>(&body).unwrap(), round);
    }

    #[test]
    fn every_answer_reads_back(answer in answer()) {
        prop_assert_eq!(message::parse::<Answer>(&message::body(&answer)).unwrap(), answer);
    }

    #[test]
    fn every_parcel_reads_back_small_or_zipped(parcel in parcel(), times in 1usize..20) {
        let groups = std::iter::repeat_n(&parcel.groups, times).flatten().cloned().collect();
        let parcel = Parcel { groups, packs: parcel.packs };
        prop_assert_eq!(wire::decode::<Parcel>(&wire::encode(&parcel)).unwrap(), parcel);
    }

    #[test]
    fn equal_messages_have_equal_bytes(round in round()) {
        prop_assert_eq!(message::body(&round), message::body(&round.clone()));
    }

    #[test]
    fn frames_and_deltas_give_back_what_they_were_made_of(
        base in vec(any::<u8>(), 0..2_000),
        raw in vec(any::<u8>(), 0..2_000),
        shared in 0usize..2_000,
    ) {
        let raw = [&base[..shared.min(base.len())], &raw].concat();
        prop_assert_eq!(&zip::unzip(&zip::zip(&raw), raw.len()).unwrap(), &raw);
        let frame = zip::delta(&base, &raw);
        prop_assert_eq!(&zip::undelta(&base, &frame, raw.len()).unwrap(), &raw);
        // Neither one byte more nor one less than announced.
        prop_assert!(zip::undelta(&base, &frame, raw.len() + 1).is_err());
        prop_assert!(raw.is_empty() || zip::undelta(&base, &frame, raw.len() - 1).is_err());
    }
}

#[test]
fn alike_records_travel_zipped_and_few_ones_plain() {
    let record = |n: u64| crucible_proto::parcel::Record::Delete {
        ticks: 1,
        counter: 1,
        parent: crucible_proto::parcel::Prefix(n.to_be_bytes()),
    };
    let parcel = |count| Parcel {
        packs: Vec::new(),
        groups: vec![crucible_proto::parcel::Group {
            replica: crucible_core::id::ReplicaId::from_bytes([1; 16]),
            ticks: 0,
            counter: 0,
            records: (0..count).map(record).collect(),
        }],
    };
    let (few, many) = (wire::encode(&parcel(3)).len(), wire::encode(&parcel(3_000)).len());
    assert!(few < 80, "{few} bytes");
    assert!(many < 3_000 * 5, "{many} bytes");
}
