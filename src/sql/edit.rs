use crate::route::*; use super::lift::Lifted;
pub fn range(_p:&Plan,_l:&Lifted)->std::ops::Range<usize>{todo!()}
pub fn with_literals(_t:&[u8],_l:&Lifted,_p:&Plan,_d:&KeyDraw,_v:&[i64])->Vec<u8>{todo!()}
pub fn with_parameters(_t:&[u8],_p:&Plan,_d:&KeyDraw)->(Vec<u8>,usize){todo!()}
