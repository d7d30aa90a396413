# At night, by hand: more workers, quickly.
sed -i 's/workers=4/workers=16/' /etc/shop.conf
chmod 777 /opt/shop/program
