"""The paper's additions to Lightweight GAN, each a small part that the step calls: image comparing (what to keep),
naive sharpness loss and gradient manipulation (in the generator's update), and blurred photos for the discriminator.
"""
