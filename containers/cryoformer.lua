-- Module file for Lmod. Change the folder to where the virtual environment lies.
local folder = "/opt/cryoformer-env"
help([[CryoFormer: continuous heterogeneous reconstruction for cryo-EM. 'cryoformer --help' lists the commands.]])
whatis("Name: CryoFormer")
whatis("Description: continuous heterogeneous reconstruction for single-particle cryo-EM")
conflict("cryoformer")
prepend_path("PATH", pathJoin(folder, "bin"))
