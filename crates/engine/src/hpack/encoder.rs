// SPDX-License-Identifier: Apache-2.0
//! Fields into a block.
/// Encodes.
#[derive(Debug)]
pub struct Encoder;
impl Encoder {
    /// New.
    pub fn new(_table: usize) -> Self {
        Self
    }
    /// One field.
    pub fn encode(&mut self, _name: &[u8], _value: &[u8], _out: &mut Vec<u8>) {
        todo!()
    }
    /// Forget.
    pub fn forget(&mut self) {
        todo!()
    }
}
