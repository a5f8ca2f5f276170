from django.contrib import admin
from django.urls import path

from shop import views

urlpatterns = [
    path("", views.front),
    path("admin/", admin.site.urls),
    path("upload/", views.upload),
    path("stream/", views.stream),
    path("file/", views.file),
    path("fail/", views.fail),
    path("where/<path:name>", views.where),
]
