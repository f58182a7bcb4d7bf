//! Statement and catalog to Plan.
use super::*; use crate::sql::lift::Lifted;
pub struct PlanContext<'a>{pub catalog:&'a crate::catalog::Catalog,pub database:&'a crate::config::Database,pub search_path:&'a [String],pub standard_conforming_strings:bool,pub param_types:&'a [u32],pub forced_shard:Option<ShardId>,pub parsed_bytes_max:usize}
pub fn plan(_t:&[u8],_l:&Lifted,_c:&PlanContext)->Result<PlannedText,Refusal>{todo!()}
impl Plan{ pub fn resolve(&self,_v:&dyn Values,_d:&crate::config::Database)->Result<Targets,Refusal>{todo!()} pub fn explain(&self,_d:&crate::config::Database,_v:&dyn Values)->String{todo!()} }
