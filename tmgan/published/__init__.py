"""Files of the published code: networks of Lightweight GAN, ManiGAN and DAMSM, read into a run and written from one."""
