//! Record batches against bytes by hand, against themselves, and against damage.
