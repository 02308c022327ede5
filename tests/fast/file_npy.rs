//! Activations as NumPy saves them.

use crate::common::npy;
use qmatmul::Error;
use qmatmul::file::{Batch, activations_from_bytes, activations_from_stream, read_activations};
use std::io::{self, Read};

/// As NumPy 2 wrote it: 0 to 5 in two rows.
const F32: &[u8] = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }                                                          \n\
    \0\0\0\0\0\0\x80?\0\0\0@\0\0@@\0\0\x80@\0\0\xa0@";
/// The same in f16, the other byte order.
const BIG_F16: &[u8] = b"\x93NUMPY\x01\x00v\x00{'descr': '>f2', 'fortran_order': False, 'shape': (2, 3), }                                                          \n\
    \0\0<\0@\0B\0D\0E\0";
/// The first of its rows in a file of version 2.
const ROW: &[u8] = b"\x93NUMPY\x02\x00t\x00\x00\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }                                                          \n\
    \0\0\0\0\0\0\x80?\0\0\0@";

fn wanted() -> Batch {
    Batch { n: 2, k: 3, data: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0] }
}

fn read(bytes: &[u8]) -> Result<Batch, Error> {
    let bytes = bytes.to_vec();
    let one = activations_from_bytes("x.npy", bytes.clone());
    let other = activations_from_stream("x.npy", &mut &bytes[..]);
    assert_eq!(one.as_ref().ok(), other.as_ref().ok());
    one
}

fn of(header: &str, data: usize) -> Result<Batch, Error> {
    read(&npy(header.as_bytes(), &vec![0; data]))
}

#[test]
fn files_of_numpy_are_read() {
    assert_eq!(read(F32).expect("float32"), wanted());
    assert_eq!(read(BIG_F16).expect("float16"), wanted());
    assert_eq!(read(ROW).expect("one row"), Batch { n: 1, k: 3, data: vec![0.0, 1.0, 2.0] });
    let mut third = ROW.to_vec();
    third[6] = 3;
    assert_eq!(read(&third).expect("version 3").n, 1);
    // The name does not matter.
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("x.safetensors");
    std::fs::write(&path, F32).expect("written");
    assert_eq!(read_activations(&path).expect("float32"), wanted());
}

#[test]
fn dictionaries_are_written_in_many_ways() {
    for header in [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n",
        "{\"shape\":(2L,3L),\"fortran_order\":False,\"descr\":\"<f4\"}",
        " {'fortran_order': False , 'descr' : '<f4','shape': ( 2,3 , ) }   ",
    ] {
        let batch = of(header, 24).expect("a matrix");
        assert_eq!((batch.n, batch.k), (2, 3), "{header}");
    }
    let empty = of("{'descr': '<f2', 'fortran_order': False, 'shape': (0, 8)}", 0).expect("no rows");
    assert_eq!((empty.n, empty.k, empty.data.len()), (0, 8, 0));
}

#[test]
fn what_cannot_be_taken_is_an_error_with_its_numbers() {
    let typed = |descr: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (2, 3), }}");
    let shaped = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    for (header, problem) in [
        (typed("'<f8'"), "`x.npy` is stored as <f8, which is not supported; supported: float32 and float16"),
        (typed("'<V2'"), "may be bfloat16 of ml_dtypes"),
        (typed("'|V2'"), "may be bfloat16 of ml_dtypes"),
        (typed("[('a', '<f4'), ('b', '<i4', (2,))]"), "[('a', '<f4'), ('b', '<i4'"),
        (typed("''"), "not supported"),
        (typed("'é4'"), "not supported"),
        (typed("3"), "a string belongs where `3,"),
        (typed("[["), "a type belongs where `[["),
        ("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}".into(), "Fortran's order"),
        ("{'descr': '<f4', 'fortran_order': 1, 'shape': (2, 3)}".into(), "`True` or `False` belongs"),
        (shaped("(1, 2, 3)"), "wanted [n, k] or [k], got [1, 2, 3]"),
        (shaped("(2, 4)"), "its header describes 32 bytes of data, 24 follow: it is truncated"),
        (shaped("(5,)"), "its header describes 20 bytes of data, 24 follow"),
        (shaped("(0, 18446744073709551615)"), "larger than any file"),
        (shaped("(4294967296, 4294967296)"), "larger than any file"),
        (shaped("(-1, 3)"), "a number belongs where `-1"),
        (shaped("(99999999999999999999, 3)"), "a number belongs where"),
        ("{'descr': '<f4', 'shape': (2, 3)}".into(), "it lacks one of the keys"),
        ("{'descr': '<f4', 'descr': '<f4'}".into(), "its key `descr` is given twice"),
        ("{'x': 3}".into(), "its key `x` is unknown"),
        (shaped("(2, 3)") + "x", "`x` follows its dictionary"),
        ("".into(), "`{` belongs at the end"),
    ] {
        let error = of(&header, 24).expect_err(&header).to_string();
        assert!(error.contains(problem) && error.contains("x.npy"), "{header}: {error}");
    }
    let scalar = of(&shaped("()"), 4).expect_err("a scalar").to_string();
    assert!(scalar.contains("wanted [n, k] or [k], got []"), "{scalar}");
    let mut later = F32.to_vec();
    later[6] = 4;
    assert!(read(&later).expect_err("version 4").to_string().contains("its version 4.0 is unknown"));
    let mut long = ROW.to_vec();
    long[10] = 1;
    let error = read(&long).expect_err("a long header").to_string();
    assert!(error.contains("its header claims 65652 bytes, the limit is 65535"), "{error}");
    for end in 0..F32.len() {
        assert!(read(&F32[..end]).is_err(), "{end}");
    }
}

/// A stream may have no end: of one that goes on behind the data, one byte more is read.
#[test]
fn streams_are_read_as_far_as_they_claim() {
    let mut rest = io::repeat(0).take(100);
    let error = activations_from_stream("stream", &mut F32.chain(&mut rest)).expect_err("too long");
    assert!(error.to_string().contains("24 bytes of data, 25 follow"), "{error}");
    assert_eq!(rest.limit(), 99);
}
